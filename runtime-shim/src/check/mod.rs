//! `gristmill check`: what `up` does before it binds addresses and asks queues,
//! and a report of what it found.

mod capability;
mod queue;
mod report;
mod table;

use std::sync::Arc;

use anyhow::Context;

use crate::app::App;
use crate::backends::Backends;
use crate::cli::CheckArgs;
use crate::files::MountedFiles;
use crate::invoker::{Invoker, InvokerOptions, Sandboxes};
use crate::metrics::Metrics;
use crate::printer;
use crate::project::Project;
use crate::settings::Environment;

use queue::QueueReport;
use report::{BackendReport, Report, RouteReport, ScheduleReport, SubscriptionReport};

/// Checks the application and prints what its components export, import and are
/// granted, its routes, queues, schedules and subscriptions.
pub async fn run(args: CheckArgs, environment: &Environment) -> anyhow::Result<()> {
    let source = args.project.source();
    let project = Project::load(source, args.project.options, environment).await?;
    let app = project.app(None)?;
    let stores = project.open_stores(&app).await?;
    project.check_files(&app)?;
    let mut report = triggers(&app);
    let options = InvokerOptions {
        sandboxes: Sandboxes::new(project.max_memory, Some(project.cache_dir()))?,
        http_deadline: std::time::Duration::from_secs(1),
        backends: project.backends.clone(),
        databases: project.open_databases(&app)?,
        files: MountedFiles::default(),
    };
    let queues = app.queues.clone();
    let invoker = Arc::new(Invoker::load(app, &stores, options, &Metrics::new())?);
    invoker.try_out().await?;
    let queues = queues
        .iter()
        .map(|queue| QueueReport::new(queue, invoker.queue_export(queue)));
    report.queues = queues.collect();
    let (components, warnings) = report::components(invoker.interfaces());
    report.components = components;
    project.backends.probe().await;
    report.backends = backends(&project.backends);
    let down = project.backends.down();
    report.sound = down.is_empty();
    project.backends.close().await;

    report.warnings = warnings.iter().map(|(text, _)| text.clone()).collect();
    if args.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write the report")?;
        printer::line(json);
    } else {
        table::lines(&report).iter().for_each(printer::line);
    }
    for (text, hint) in warnings {
        printer::warning(text, hint);
    }
    match down.into_iter().next() {
        Some(first) => Err(first.into()),
        None => Ok(()),
    }
}

/// The report, with what is known before anything is loaded.
fn triggers(app: &App) -> Report {
    let routes = app.routes.iter().map(|(route, component)| RouteReport {
        route: route.clone(),
        component: component.to_string(),
    });
    let schedules = app.schedules.iter().map(|cron| ScheduleReport {
        schedule: cron.schedule.to_string(),
        component: cron.component.to_string(),
    });
    let subscriptions = app.subscriptions.iter().map(|redis| SubscriptionReport {
        channel: redis.channel.clone(),
        server: redis.server.name().to_owned(),
        component: redis.component.to_string(),
    });
    Report {
        application: app.name.clone(),
        routes: routes.collect(),
        schedules: schedules.collect(),
        subscriptions: subscriptions.collect(),
        ..Report::default()
    }
}

fn backends(backends: &Backends) -> Vec<BackendReport> {
    let all = backends.established().into_iter();
    all.map(|backend| BackendReport {
        name: backend.name().to_owned(),
        problem: backend.check().err().map(|down| down.to_string()),
    })
    .collect()
}
