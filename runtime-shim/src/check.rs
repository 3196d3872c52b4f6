//! `gristmill check`: what `up` does before it binds addresses and asks queues,
//! and a list of what it found.

use std::sync::Arc;

use crate::app::App;
use crate::cli::ProjectArgs;
use crate::invoker::{Invoker, InvokerOptions};
use crate::metrics::Metrics;
use crate::printer;
use crate::project::{AppSource, Project};
use crate::settings::Environment;

/// Checks the application and prints its components, routes and queues.
pub async fn run(args: ProjectArgs, environment: &Environment) -> anyhow::Result<()> {
    let source = AppSource::Manifest(args.from);
    let project = Project::load(source, args.options, environment).await?;
    let app = project.app(None)?;
    let stores = project.open_stores(&app).await?;
    let lines = describe(&app);
    let options = InvokerOptions {
        max_memory: project.max_memory,
        cache_dir: Some(project.cache_dir()),
        http_deadline: std::time::Duration::from_secs(1),
        backends: project.backends.clone(),
        databases: project.open_databases(&app)?,
    };
    let name = app.name.clone();
    let invoker = Arc::new(Invoker::load(app, &stores, options, &Metrics::new())?);
    for (component, exports) in invoker.exports() {
        printer::line(format_args!("component {}", component.id));
        printer::line(format_args!("  wasm    {}", component.source));
        for export in exports {
            printer::line(format_args!("  exports {export}"));
        }
        for store in &component.stores {
            printer::line(format_args!("  store   {store}"));
        }
        for database in &component.databases {
            printer::line(format_args!("  sqlite  {database}"));
        }
    }
    for line in lines {
        printer::line(line);
    }
    project.backends.probe().await;
    for backend in project.backends.established() {
        match backend.check() {
            Ok(()) => printer::line(format_args!("backend {} answers", backend.name())),
            Err(down) => printer::line(format_args!("backend {down}")),
        }
    }
    let down = project.backends.down();
    project.backends.close().await;
    if let Some(first) = down.into_iter().next() {
        return Err(first.into());
    }
    printer::line(format_args!(
        "application `{name}` is sound; addresses and remote queues were not tried"
    ));
    Ok(())
}

fn describe(app: &App) -> Vec<String> {
    let routes = app
        .routes
        .iter()
        .map(|(route, id)| format!("route {route} -> {id}"));
    let queues = app
        .queues
        .iter()
        .map(|q| format!("queue {} -> {}", q.queue_url, q.component));
    let schedules = app
        .schedules
        .iter()
        .map(|cron| format!("schedule {} -> {}", cron.schedule, cron.component));
    routes.chain(queues).chain(schedules).collect()
}
