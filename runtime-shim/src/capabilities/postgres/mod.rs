//! `spin:postgres` 4.0.0 and 3.0.0, `fermyon:spin/postgres` 2.0.0: databases at
//! addresses that the manifest allows. The newest version is what the host
//! thinks in; `older` has the others.

mod address;
mod connector;
mod error;
mod older;
mod pool;
pub(super) mod session;
mod values;
mod wire;

use std::sync::Arc;

use wasmtime::component::{HasData, Resource, ResourceTable};

use super::bindings::spin::postgres4_0_0::postgres as v4;
use super::{Grants, MAX_OPEN_CONNECTIONS, refusal};

use address::Address;
use error::PostgresError;
pub(super) use pool::PostgresServers;
use session::Session;

/// Marks the view for the linker.
pub(super) struct Postgres;

impl HasData for Postgres {
    type Data<'a> = PostgresView<'a>;
}

/// What PostgreSQL calls see of a sandbox.
pub(super) struct PostgresView<'a> {
    pub(super) grants: &'a Grants,
    pub(super) servers: &'a Arc<PostgresServers>,
    pub(super) table: &'a mut ResourceTable,
    pub(super) open: &'a mut usize,
}

impl PostgresView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Session>, PostgresError>> {
        if *self.open >= MAX_OPEN_CONNECTIONS {
            return Ok(Err(PostgresError::TooManyHandles));
        }
        let session = match connect(self.grants, self.servers, address).await {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        *self.open += 1;
        Ok(Ok(self.table.push(session)?))
    }

    async fn query(
        &mut self,
        session: &Resource<Session>,
        statement: &str,
        parameters: Vec<v4::ParameterValue>,
    ) -> wasmtime::Result<Result<v4::RowSet, PostgresError>> {
        let session = self.table.get_mut(session)?;
        Ok(session.query(statement, parameters).await)
    }

    async fn execute(
        &mut self,
        session: &Resource<Session>,
        statement: &str,
        parameters: Vec<v4::ParameterValue>,
    ) -> wasmtime::Result<Result<u64, PostgresError>> {
        let session = self.table.get_mut(session)?;
        Ok(session.execute(statement, parameters).await)
    }

    fn close(&mut self, session: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        *self.open -= 1;
        Ok(())
    }
}

/// Connects to a database that every host of its address is allowed for.
async fn connect(
    grants: &Grants,
    servers: &Arc<PostgresServers>,
    address: String,
) -> Result<Session, PostgresError> {
    if address.len() > refusal::MAX_ADDRESS_BYTES {
        return Err(PostgresError::Address("it is too long".to_owned()));
    }
    let address = Address::parse(address)?;
    for endpoint in &address.endpoints {
        let (host, port) = (&endpoint.host, Some(endpoint.port));
        if !refusal::allows(&grants.component, "postgres", host, port) {
            return Err(PostgresError::NotAllowed(endpoint.to_string()));
        }
    }
    let server = servers.at(&address)?;
    let session = Session::open(Arc::clone(&server)).await;
    match &session {
        // It has answered: from now on its absence holds the component up.
        Ok(_) => grants.dependencies.add(server.backend()),
        // The manifest names it, and nobody is there: messages had better wait. What the
        // component merely makes up holds nobody up.
        Err(PostgresError::Unreachable { .. } | PostgresError::Down(_))
            if is_named(grants, &address) =>
        {
            if let Some(presence) = servers.presence(&server) {
                presence.suspect();
                grants.dependencies.add(&presence);
            }
        }
        Err(_) => {}
    }
    session
}

/// Whether the component's grants name each host of the address, rather than let it pass.
fn is_named(grants: &Grants, address: &Address) -> bool {
    let allowed = &grants.component.allowed_hosts;
    let mut endpoints = address.endpoints.iter();
    endpoints.all(|endpoint| allowed.names("postgres", &endpoint.host, endpoint.port))
}

impl v4::Host for PostgresView<'_> {}

impl v4::HostConnection for PostgresView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Session>, v4::Error>> {
        Ok(PostgresView::open(self, address).await?.map_err(Into::into))
    }

    async fn query(
        &mut self,
        connection: Resource<Session>,
        statement: String,
        params: Vec<v4::ParameterValue>,
    ) -> wasmtime::Result<Result<v4::RowSet, v4::Error>> {
        let found = PostgresView::query(self, &connection, &statement, params).await?;
        Ok(found.map_err(Into::into))
    }

    async fn execute(
        &mut self,
        connection: Resource<Session>,
        statement: String,
        params: Vec<v4::ParameterValue>,
    ) -> wasmtime::Result<Result<u64, v4::Error>> {
        let touched = PostgresView::execute(self, &connection, &statement, params).await?;
        Ok(touched.map_err(Into::into))
    }

    async fn drop(&mut self, connection: Resource<Session>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}
