//! Routes: Spin's grammar and precedence, by the matcher that Spin uses.
//!
//! `/exact`, `/users/:id`, `/prefix/...`; the more exact a route, the sooner it
//! is taken.

use std::collections::BTreeMap;

use routefinder::{RouteSpec, Router as Matcher};

use crate::names::ComponentId;

/// The routes of an application.
#[derive(Debug, Default)]
pub struct Router {
    matcher: Matcher<Target>,
}

#[derive(Clone, Debug)]
struct Target {
    component: ComponentId,
    route: String,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// The component that answers.
    pub component: ComponentId,
    /// The route as the manifest has it.
    pub route: String,
    /// What `...` stands for, or nothing.
    pub path_info: String,
    /// What each `:name` stands for.
    pub captures: Vec<(String, String)>,
}

/// Why the routes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Two components on one route.
    #[error("route `{route}` leads to component `{first}` and to component `{second}`")]
    Duplicate {
        /// The route.
        route: String,
        /// Who has it.
        first: ComponentId,
        /// Who wants it too.
        second: ComponentId,
    },
    /// Not a route.
    #[error("route `{route}` of component `{component}` is malformed: {reason}")]
    Malformed {
        /// The route.
        route: String,
        /// Whose it is.
        component: ComponentId,
        /// What is wrong.
        reason: String,
    },
    /// Taken by the host.
    #[error("route `{route}` of component `{component}` is under the reserved `{RESERVED}`")]
    Reserved {
        /// The route.
        route: String,
        /// Whose it is.
        component: ComponentId,
    },
}

/// Paths under it belong to the host. Spin: routes/src/lib.rs.
pub const RESERVED: &str = "/.well-known/spin/";

impl Router {
    /// Builds the router from routes and their components.
    pub fn new(
        routes: impl IntoIterator<Item = (String, ComponentId)>,
    ) -> Result<Self, RouteError> {
        let mut taken: BTreeMap<String, ComponentId> = BTreeMap::new();
        let mut matcher = Matcher::new();
        for (route, component) in routes {
            let path = if route.starts_with('/') {
                route.clone()
            } else {
                format!("/{route}")
            };
            let path = path.trim_end_matches('/').to_owned();
            if let Some(first) = taken.get(&path).cloned() {
                return Err(RouteError::Duplicate {
                    route,
                    first,
                    second: component,
                });
            }
            if format!("{path}/").starts_with(RESERVED) {
                return Err(RouteError::Reserved { route, component });
            }
            let spec = match path.strip_suffix("/...") {
                Some(prefix) => format!("{prefix}/*"),
                None => path.clone(),
            };
            let malformed = |reason: String| RouteError::Malformed {
                route: route.clone(),
                component: component.clone(),
                reason,
            };
            if spec.trim_end_matches('*').contains('*')
                || path.contains("...") && !path.ends_with("/...")
            {
                return Err(malformed(
                    "a wildcard stands for the last part only".to_owned(),
                ));
            }
            let spec = RouteSpec::try_from(spec.as_str()).map_err(malformed)?;
            let target = Target {
                component: component.clone(),
                route: route.clone(),
            };
            matcher
                .add(spec, target)
                .map_err(|error| malformed(error.to_string()))?;
            taken.insert(path, component);
        }
        Ok(Self { matcher })
    }

    /// The component for `path`.
    pub fn find(&self, path: &str) -> Option<RouteMatch> {
        let best = self.matcher.best_match(path)?;
        let captures = best.captures();
        // Spin tells trailing slashes apart, the matcher does not.
        let slash = if path.ends_with('/') { "/" } else { "" };
        let path_info = match captures.wildcard() {
            None => String::new(),
            Some("") => slash.to_owned(),
            Some(rest) => format!("/{rest}{slash}"),
        };
        let target = best.handler();
        Some(RouteMatch {
            component: target.component.clone(),
            route: target.route.clone(),
            path_info,
            captures: captures
                .iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        })
    }
}

impl RouteMatch {
    /// What a component sees when another one calls it: every path is its own.
    pub fn chained(component: ComponentId, path: &str) -> Self {
        Self {
            component,
            route: "/...".to_owned(),
            path_info: path.to_owned(),
            captures: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(s: &str) -> ComponentId {
        ComponentId::new(s).expect("test id")
    }

    fn router(routes: &[(&str, &str)]) -> Result<Router, RouteError> {
        Router::new(
            routes
                .iter()
                .map(|(route, component)| ((*route).to_owned(), id(component))),
        )
    }

    #[test]
    fn the_more_exact_route_wins() {
        let router = router(&[
            ("/...", "rest"),
            ("/users/:id", "user"),
            ("/users/me", "me"),
            ("/files/...", "files"),
            ("/", "home"),
        ])
        .expect("routes");
        for (path, component, path_info) in [
            ("/", "home", ""),
            ("/users/me", "me", ""),
            ("/users/7", "user", ""),
            ("/users/7/x", "rest", "/users/7/x"),
            ("/files", "files", ""),
            ("/files/", "files", "/"),
            ("/files/a/b", "files", "/a/b"),
            ("/files/a/", "files", "/a/"),
            ("/nope", "rest", "/nope"),
        ] {
            let found = router
                .find(path)
                .unwrap_or_else(|| panic!("no route for {path}"));
            assert_eq!(
                (found.component, found.path_info.as_str()),
                (id(component), path_info),
                "{path}"
            );
        }
        let found = router.find("/users/7").expect("route");
        assert_eq!(found.captures, [("id".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn unknown_paths_lead_nowhere() {
        let router = router(&[("/a", "a")]).expect("routes");
        assert_eq!(router.find("/b"), None);
        assert_eq!(router.find("/a/b"), None);
    }

    #[test]
    fn refuses_what_would_surprise() {
        for (routes, expected) in [
            (
                &[("/a", "one"), ("/a/", "two")][..],
                "leads to component `one` and to component `two`",
            ),
            (&[("/.well-known/spin/health", "a")], "reserved"),
            (&[("/a/.../b", "a")], "last part only"),
        ] {
            let error = router(routes).expect_err("must be refused").to_string();
            assert!(error.contains(expected), "`{expected}` not in `{error}`");
        }
    }
}
