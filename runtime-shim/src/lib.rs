//! Gristmill's native host: it reads a Spin manifest, serves its HTTP routes and
//! consumes its queues, and runs each request and each message in a WebAssembly
//! sandbox of its own.
//!
//! Data flows one way: manifest → app → triggers → invoker → engine →
//! component; capabilities answer what the component imports. ARCHITECTURE.md
//! has the map.

pub mod admin;
pub mod allowed_hosts;
pub mod app;
pub mod aws;
pub mod backends;
pub mod build;
pub mod capabilities;
pub mod check;
pub mod cli;
pub mod cron;
pub mod databases;
pub mod drain;
pub mod embedded_origin;
pub mod engine;
pub mod files;
pub mod health;
pub mod http;
pub mod invoker;
pub mod locked;
pub mod logging;
pub mod manifest;
pub mod metrics;
pub mod mqtt;
pub mod names;
pub mod plugin;
pub mod printer;
pub mod project;
pub mod queue;
pub mod redis_pool;
pub mod redis_server;
pub mod redis_trigger;
pub mod registry;
pub mod runtime_config;
pub mod scaffold;
pub mod secret;
pub mod seeds;
pub mod settings;
pub mod stores;
pub mod template;
pub mod tls;
pub mod up;
pub mod variables;
pub mod wasm;
pub mod watch;
