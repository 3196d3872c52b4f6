//! What a component may ask of the host: one file for each capability, each
//! answering imports for the component that asks and for no other.

mod clients;
mod command;
mod config;
mod files;
mod guest_log;
mod key_value;
mod limits;
mod llm;
mod mysql;
mod outbound_http;
mod outbound_mqtt;
mod outbound_redis;
mod postgres;
mod refusal;
mod sockets;
mod sqlite;
mod variables;
mod wasi_keyvalue;

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets as wasi_sockets;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings as wasi_http;
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::app::Component;
use crate::backends::Dependencies;
use crate::databases::Databases;
use crate::invoker::{Caller, Invoker};
use crate::names::StoreLabel;
use crate::stores::Store;

pub use clients::Clients;
pub use command::{Command, Printed};
pub use files::{FolderError, Preopens};
use guest_log::GuestLog;
use key_value::KeyValueView;
use limits::Limits;
pub use limits::{MemoryBudget, Refused};
use outbound_http::Outbound;
use outbound_mqtt::MqttView;
use outbound_redis::RedisView;
use postgres::PostgresView;
use sockets::{GrantedSockets, Sockets, SocketsView};
use sqlite::SqliteView;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from wit/, where the contracts are documented"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: [
            "../wit/spin.wit",
            "../wit/spin-sqlite.wit",
            "../wit/spin-postgres-3.wit",
            "../wit/spin-postgres-4.wit",
            "../wit/wasi-keyvalue.wit",
            "../wit/wasi-config.wit",
        ],
        inline: "
            package gristmill:host;
            world capabilities {
                import fermyon:spin/key-value@2.0.0;
                import fermyon:spin/llm@2.0.0;
                import fermyon:spin/mqtt@2.0.0;
                import fermyon:spin/mysql@2.0.0;
                import fermyon:spin/redis@2.0.0;
                import fermyon:spin/postgres@2.0.0;
                import fermyon:spin/sqlite@2.0.0;
                import fermyon:spin/variables@2.0.0;
                import spin:postgres/postgres@3.0.0;
                import spin:postgres/postgres@4.0.0;
                import spin:sqlite/sqlite@3.0.0;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
                import wasi:config/store@0.2.0-draft-2024-09-27;
            }
        ",
        world: "gristmill:host/capabilities",
        imports: { default: async | trappable },
        with: {
            "fermyon:spin/key-value.store": crate::stores::Store,
            "fermyon:spin/mqtt.connection": super::outbound_mqtt::Connection,
            "fermyon:spin/mysql.connection": super::mysql::Connection,
            "fermyon:spin/redis.connection": super::outbound_redis::Connection,
            "fermyon:spin/sqlite.connection": crate::databases::Connection,
            "fermyon:spin/postgres.connection": super::postgres::session::Session,
            "spin:postgres/postgres@3.0.0.connection": super::postgres::session::Session,
            "spin:postgres/postgres@4.0.0.connection": super::postgres::session::Session,
            "spin:sqlite/sqlite.connection": crate::databases::Connection,
            "wasi:keyvalue/store.bucket": crate::stores::Store,
            "wasi:keyvalue/atomics.cas": super::wasi_keyvalue::Cas,
        },
    });
}

/// Stores, and compare-and-swaps under way, that one sandbox may hold open. Spin:
/// `DEFAULT_STORE_TABLE_CAPACITY`.
const MAX_OPEN_STORES: usize = 256;

/// SQL connections that one sandbox may hold open.
const MAX_OPEN_CONNECTIONS: usize = 16;

/// A component with the stores behind its labels: what each of its sandboxes
/// may reach.
pub struct Grants {
    /// The component.
    pub component: Component,
    /// Its stores.
    pub stores: BTreeMap<StoreLabel, Store>,
    /// Its SQLite databases.
    pub databases: Databases,
    /// Its files, if it has any.
    pub files: Option<Preopens>,
    /// The servers without which it cannot work.
    pub dependencies: Arc<Dependencies>,
}

/// The host's side of one sandbox: made for one invocation, gone with it.
pub struct Sandbox {
    grants: Arc<Grants>,
    table: ResourceTable,
    open_stores: usize,
    open_redis: usize,
    open_mqtt: usize,
    open_connections: usize,
    wasi: WasiCtx,
    sockets: Option<Sockets>,
    http: WasiHttpCtx,
    outbound: Outbound,
    limits: Limits,
}

impl Sandbox {
    /// The state of a fresh sandbox; `own` is what it is as a caller of others,
    /// `command` what a program gets that has no other way to be told.
    pub fn new(
        grants: Arc<Grants>,
        invoker: Arc<Invoker>,
        own: Caller,
        command: Option<Command>,
    ) -> Self {
        let component = &grants.component;
        let mut wasi = WasiCtxBuilder::new();
        match command {
            Some(command) => command.equip(&mut wasi, component),
            None => {
                wasi.stdout(GuestLog::stdout(&component.id))
                    .stderr(GuestLog::stderr(&component.id));
                for (key, value) in &component.environment {
                    wasi.env(key, value);
                }
            }
        }
        let sockets = Sockets::grant(&mut wasi, &grants, &invoker.clients().sockets);
        let mut wasi = wasi.build();
        let mut table = ResourceTable::new();
        if let Some(files) = &grants.files {
            files.grant(&mut wasi, &mut table);
        }
        Self {
            sockets,
            table,
            open_stores: 0,
            open_redis: 0,
            open_mqtt: 0,
            open_connections: 0,
            wasi,
            http: WasiHttpCtx::new(),
            limits: Limits::new(invoker.max_memory(), invoker.memory_budget()),
            outbound: Outbound::new(Arc::clone(&grants), invoker, own),
            grants,
        }
    }

    /// What the sandbox asked for and did not get.
    pub fn refused(&self) -> Option<Refused> {
        self.limits.refused()
    }

    /// The limits that wasmtime enforces while memory and tables grow.
    pub fn limits(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limits
    }

    /// The component that runs in it.
    pub fn component(&mut self) -> &Component {
        &self.grants.component
    }

    fn key_value(&mut self) -> KeyValueView<'_> {
        KeyValueView {
            granted: &self.grants.stores,
            table: &mut self.table,
            open: &mut self.open_stores,
        }
    }

    fn sockets(&mut self) -> SocketsView<'_> {
        SocketsView {
            wasi: WasiSocketsCtxView {
                ctx: self.wasi.sockets(),
                table: &mut self.table,
            },
            granted: self.sockets.as_mut(),
        }
    }

    fn redis(&mut self) -> RedisView<'_> {
        RedisView {
            grants: &self.grants,
            pools: &self.outbound.clients().redis,
            table: &mut self.table,
            open: &mut self.open_redis,
        }
    }

    fn mqtt(&mut self) -> MqttView<'_> {
        MqttView {
            grants: &self.grants,
            sessions: &self.outbound.clients().mqtt,
            table: &mut self.table,
            open: &mut self.open_mqtt,
        }
    }

    fn postgres(&mut self) -> PostgresView<'_> {
        PostgresView {
            grants: &self.grants,
            servers: &self.outbound.clients().postgres,
            table: &mut self.table,
            open: &mut self.open_connections,
        }
    }

    fn sqlite(&mut self) -> SqliteView<'_> {
        SqliteView {
            granted: &self.grants.databases,
            table: &mut self.table,
            open: &mut self.open_connections,
        }
    }
}

/// Marks, for the linker, calls that see nothing but the component's own settings.
struct Own;

impl HasData for Own {
    type Data<'a> = &'a Component;
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Offers every capability. What a component may do with one is decided at each
/// call, by its grants.
pub fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    use bindings::{fermyon::spin, wasi};
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // In place of those that count no sockets and know no names.
    linker.allow_shadowing(true);
    wasi_sockets::tcp_create_socket::add_to_linker::<_, GrantedSockets>(linker, Sandbox::sockets)?;
    wasi_sockets::udp_create_socket::add_to_linker::<_, GrantedSockets>(linker, Sandbox::sockets)?;
    wasi_sockets::ip_name_lookup::add_to_linker::<_, GrantedSockets>(linker, Sandbox::sockets)?;
    linker.allow_shadowing(false);
    let http_options = wasi_http::LinkOptions::default();
    wasi_http::http::types::add_to_linker::<_, WasiHttp>(
        linker,
        &(&http_options).into(),
        Sandbox::http,
    )?;
    outbound_http::add_to_linker(linker)?;
    spin::key_value::add_to_linker::<_, key_value::KeyValue>(linker, Sandbox::key_value)?;
    wasi::keyvalue::store::add_to_linker::<_, key_value::KeyValue>(linker, Sandbox::key_value)?;
    wasi::keyvalue::atomics::add_to_linker::<_, key_value::KeyValue>(linker, Sandbox::key_value)?;
    wasi::keyvalue::batch::add_to_linker::<_, key_value::KeyValue>(linker, Sandbox::key_value)?;
    spin::llm::add_to_linker::<_, Own>(linker, Sandbox::component)?;
    spin::mqtt::add_to_linker::<_, outbound_mqtt::OutboundMqtt>(linker, Sandbox::mqtt)?;
    spin::mysql::add_to_linker::<_, Own>(linker, Sandbox::component)?;
    spin::redis::add_to_linker::<_, outbound_redis::OutboundRedis>(linker, Sandbox::redis)?;
    spin::rdbms_types::add_to_linker::<_, postgres::Postgres>(linker, Sandbox::postgres)?;
    spin::postgres::add_to_linker::<_, postgres::Postgres>(linker, Sandbox::postgres)?;
    spin::sqlite::add_to_linker::<_, sqlite::Sqlite>(linker, Sandbox::sqlite)?;
    bindings::spin::postgres3_0_0::postgres::add_to_linker::<_, postgres::Postgres>(
        linker,
        Sandbox::postgres,
    )?;
    bindings::spin::postgres4_0_0::postgres::add_to_linker::<_, postgres::Postgres>(
        linker,
        Sandbox::postgres,
    )?;
    bindings::spin::sqlite::sqlite::add_to_linker::<_, sqlite::Sqlite>(linker, Sandbox::sqlite)?;
    spin::variables::add_to_linker::<_, Own>(linker, Sandbox::component)?;
    wasi::config::store::add_to_linker::<_, Own>(linker, Sandbox::component)?;
    Ok(())
}
