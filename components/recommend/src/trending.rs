//! The statements that compute and read what is trending. Each is atomic by
//! itself, so none needs a transaction. They are the SQL that SQLite and
//! PostgreSQL share.
//!
//! A computation is a *generation*, named by its time. Row 0 of each generation
//! stands for itself: it tells when the last computation was also when nothing is
//! trending. Readers take the newest generation and never see half of one.

use database::{Error, Row, Value};

/// Adds a generation: ?1 its time in milliseconds, ?2 the hour of that time. A
/// view counts 8 in the last 24 hours, 3 in the last 72, 1 in the last 168; the
/// hour that has begun is one of them. Equal scores keep one order: by views,
/// then by id.
pub(crate) const COMPUTE: &str = "
    INSERT INTO trending (generation, rank, image_id, views, score)
    SELECT CAST(?1 AS BIGINT), 0, '', 0, 0
    UNION ALL
    SELECT CAST(?1 AS BIGINT), place, image_id, views, score FROM (
        SELECT row_number() OVER (ORDER BY score DESC, views DESC, image_id) AS place,
               image_id, views, score
        FROM (
            SELECT views.image_id AS image_id,
                   CAST(SUM(views.count) AS BIGINT) AS views,
                   CAST(SUM(views.count * CASE
                       WHEN views.hour > CAST(?2 AS BIGINT) - 24 THEN 8
                       WHEN views.hour > CAST(?2 AS BIGINT) - 72 THEN 3
                       ELSE 1
                   END) AS BIGINT) AS score
            FROM views JOIN images
                ON images.id = views.image_id AND images.state <> 'uploading'
            WHERE views.hour > CAST(?2 AS BIGINT) - 168
            GROUP BY views.image_id
        ) AS sums
    ) AS ranked
    WHERE place <= 100";

/// Removes the generations before ?1. Those after it stay: another computation
/// may run at the same time, and each must leave the newest alone.
pub(crate) const FORGET_GENERATIONS: &str =
    "DELETE FROM trending WHERE generation < CAST(?1 AS BIGINT)";

/// Removes the views that no longer count at hour ?1.
pub(crate) const FORGET_VIEWS: &str = "DELETE FROM views WHERE hour <= CAST(?1 AS BIGINT) - 168";

/// The newest generation: its row 0, then at most ?1 images that still exist.
pub(crate) const READ: &str = "
    SELECT trending.generation, trending.views, trending.score, trending.image_id,
           COALESCE(images.type, ''), COALESCE(images.width, 0), COALESCE(images.height, 0)
    FROM trending LEFT JOIN images ON images.id = trending.image_id
    WHERE trending.generation = (SELECT MAX(generation) FROM trending)
        AND (trending.rank = 0 OR images.id IS NOT NULL)
    ORDER BY trending.rank
    LIMIT CAST(?1 AS BIGINT) + 1";

/// The last computation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trending {
    /// In milliseconds since 1970; nothing before the first.
    pub(crate) computed_at: Option<i64>,
    /// Best first.
    pub(crate) images: Vec<Image>,
}

/// An image and how much it was viewed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) media_type: String,
    pub(crate) width: i64,
    pub(crate) height: i64,
    pub(crate) views: i64,
    pub(crate) score: i64,
}

/// The steps of a computation at a time (milliseconds since 1970), in order.
pub(crate) fn steps(now: i64) -> [(&'static str, Vec<Value>); 3] {
    let hour = catalog::hour_of(now);
    [
        (COMPUTE, vec![now.into(), hour.into()]),
        (FORGET_GENERATIONS, vec![now.into()]),
        (FORGET_VIEWS, vec![hour.into()]),
    ]
}

/// From the rows of [`READ`].
pub(crate) fn read(rows: &[Row]) -> Result<Trending, Error> {
    let Some((first, images)) = rows.split_first() else {
        return Ok(Trending::default());
    };
    let image = |row: &Row| {
        Ok(Image {
            id: row.text(3)?.to_owned(),
            media_type: row.text(4)?.to_owned(),
            width: row.integer(5)?,
            height: row.integer(6)?,
            views: row.integer(1)?,
            score: row.integer(2)?,
        })
    };
    Ok(Trending {
        computed_at: Some(first.integer(0)?),
        images: images.iter().map(image).collect::<Result<_, Error>>()?,
    })
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use rusqlite::Connection;
    use rusqlite::types::{Value as Cell, ValueRef};

    use super::*;

    const MINUTE: i64 = 60_000;
    const NOW: i64 = 1_767_225_600_000;

    /// The catalog in memory.
    struct Catalog(Connection);

    impl Catalog {
        fn new() -> Self {
            let connection = Connection::open_in_memory().unwrap();
            for statement in catalog::SCHEMA {
                connection.execute(statement, []).unwrap();
            }
            Self(connection)
        }

        fn with_images(ids: &[&str]) -> Self {
            let catalog = Self::new();
            for id in ids {
                catalog.add_image(id, catalog::READY);
            }
            catalog
        }

        fn add_image(&self, id: &str, state: &str) {
            let statement = "INSERT INTO images VALUES
                (?1, 'ann', ?2, 'image/png', 9, 4, 3, 'x', 0, 0, 0, '', '')";
            self.0.execute(statement, [id, state]).unwrap();
        }

        fn add_views(&self, id: &str, hours_ago: i64, count: i64) {
            let hour = catalog::hour_of(NOW) - hours_ago;
            let statement = "INSERT INTO views VALUES (?1, ?2, ?3)";
            self.0.execute(statement, (id, hour, count)).unwrap();
        }

        fn query(&self, statement: &str, values: &[Value]) -> Vec<Row> {
            let values = values.iter().map(|value| match value {
                Value::Null => Cell::Null,
                Value::Integer(number) => Cell::Integer(*number),
                Value::Text(text) => Cell::Text(text.clone()),
            });
            let mut statement = self.0.prepare(statement).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
                let cells = (0..columns).map(|column| match row.get_ref(column) {
                    Ok(ValueRef::Integer(number)) => Some(Value::Integer(number)),
                    Ok(ValueRef::Text(text)) => {
                        Some(Value::Text(String::from_utf8_lossy(text).into_owned()))
                    }
                    _ => None,
                });
                Ok(Row::new(cells.collect()))
            });
            rows.unwrap().map(Result::unwrap).collect()
        }

        fn compute(&self, now: i64) {
            for (statement, values) in steps(now) {
                self.query(statement, &values);
            }
        }

        fn read(&self, limit: i64) -> Trending {
            read(&self.query(READ, &[limit.into()])).unwrap()
        }

        /// Id, views and score of what is trending.
        fn scores(&self) -> Vec<(String, i64, i64)> {
            let images = self.read(50).images.into_iter();
            images
                .map(|image| (image.id, image.views, image.score))
                .collect()
        }

        fn count(&self, table: &str) -> i64 {
            let statement = format!("SELECT COUNT(*) FROM {table}");
            self.0.query_row(&statement, [], |row| row.get(0)).unwrap()
        }
    }

    #[test]
    fn a_computation_is_noted_even_when_nothing_trends() {
        let catalog = Catalog::new();
        assert_eq!(catalog.read(10), Trending::default());
        catalog.compute(NOW);
        assert_eq!(catalog.read(10).computed_at, Some(NOW));
        catalog.compute(NOW + MINUTE);
        assert_eq!(catalog.read(10).computed_at, Some(NOW + MINUTE));
        assert_eq!(catalog.count("trending"), 1);
    }

    #[test]
    fn recent_views_weigh_more_and_old_ones_are_forgotten() {
        let catalog = Catalog::with_images(&["new", "middle", "old", "gone"]);
        for (id, hours_ago, count) in [
            ("new", 0, 1),
            ("new", 23, 1),
            ("middle", 24, 1),
            ("middle", 71, 4),
            ("old", 72, 1),
            ("old", 167, 10),
            ("gone", 168, 99),
        ] {
            catalog.add_views(id, hours_ago, count);
        }
        catalog.compute(NOW);
        let expected = [("new", 2, 16), ("middle", 5, 15), ("old", 11, 11)];
        let expected = expected.map(|(id, views, score)| (id.to_owned(), views, score));
        assert_eq!(catalog.scores(), expected);
        assert_eq!(catalog.count("views"), 6);
    }

    #[test]
    fn equal_scores_keep_one_order() {
        let catalog = Catalog::with_images(&["c", "a", "b", "d"]);
        for id in ["c", "a", "b"] {
            catalog.add_views(id, 1, 2);
        }
        catalog.add_views("d", 100, 16);
        catalog.compute(NOW);
        let ids: Vec<_> = catalog.scores().into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, ["d", "a", "b", "c"]);
    }

    #[test]
    fn only_images_that_exist_are_shown() {
        let catalog = Catalog::with_images(&["a", "b"]);
        catalog.add_image("c", catalog::UPLOADING);
        for id in ["a", "b", "c", "never there"] {
            catalog.add_views(id, 0, 1);
        }
        catalog.compute(NOW);
        assert_eq!(catalog.scores().len(), 2);
        catalog.query("DELETE FROM images WHERE id = 'a'", &[]);
        let left = [("b".to_owned(), 1, 8)];
        assert_eq!(catalog.scores(), left);
        // The limit counts what is there, not what was.
        assert_eq!(catalog.read(1).images.len(), 1);
    }

    #[test]
    fn a_hundred_are_kept_and_the_limit_is_obeyed() {
        let catalog = Catalog::new();
        for number in 0..120 {
            let id = format!("{number:03}");
            catalog.add_image(&id, catalog::PENDING);
            catalog.add_views(&id, 0, 1000 - number);
        }
        catalog.compute(NOW);
        assert_eq!(catalog.count("trending"), 101);
        let trending = catalog.read(3);
        let ids: Vec<_> = trending.images.iter().map(|image| &image.id).collect();
        assert_eq!(ids, ["000", "001", "002"]);
    }

    #[test]
    fn computations_at_the_same_time_leave_the_newest() {
        let catalog = Catalog::with_images(&["a"]);
        catalog.add_views("a", 0, 1);
        catalog.compute(NOW + 1);
        catalog.compute(NOW);
        assert_eq!(catalog.read(10).computed_at, Some(NOW + 1));
        assert_eq!(catalog.scores().len(), 1);
        catalog.compute(NOW + MINUTE);
        assert_eq!(catalog.count("trending"), 2);
    }
}
