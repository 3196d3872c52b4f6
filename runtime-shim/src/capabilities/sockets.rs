//! `wasi:sockets` within what `allowed_outbound_hosts` grants by the schemes
//! `tcp`, `udp` and `*`: outgoing connections and datagrams. Nobody listens.
//! A name that the list has may be looked up, and what it leads to may then be
//! reached as if by that name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Host as UrlHost;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, Host as NetworkHost, HostNetwork, IpAddress, IpAddressFamily, Network,
};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView};

use super::{Grants, refusal};
use crate::allowed_hosts::SERVICE_CHAINING_SUFFIX;

/// Sockets that one sandbox may have at once.
const MAX_SOCKETS_EACH: usize = 32;
/// Sockets of all sandboxes.
const MAX_SOCKETS: usize = 1024;
/// Names that one sandbox may look up. Each takes a thread while it lasts.
const MAX_LOOKUPS: usize = 64;

/// The bound over all sandboxes.
pub(super) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_SOCKETS))
}

/// What a sandbox that may use sockets has open and has looked up.
pub(super) struct Sockets {
    rules: Arc<Rules>,
    permits: Arc<Semaphore>,
    open: Vec<Open>,
    lookups: usize,
    /// The names behind the look-ups under way, by the number of their resource.
    pending: Vec<(u32, Arc<str>)>,
}

/// A socket, or the memory of one: that it is gone shows in the table.
struct Open {
    resource: u32,
    exists: fn(&ResourceTable, u32) -> bool,
    _permit: OwnedSemaphorePermit,
}

impl Sockets {
    /// Lets `wasi` use sockets, if anything on the component's list does.
    pub(super) fn grant(
        wasi: &mut WasiCtxBuilder,
        grants: &Arc<Grants>,
        permits: &Arc<Semaphore>,
    ) -> Option<Self> {
        let allowed = &grants.component.allowed_hosts;
        let (tcp, udp) = (allowed.allow_scheme("tcp"), allowed.allow_scheme("udp"));
        if !tcp && !udp {
            return None;
        }
        let rules = Arc::new(Rules {
            grants: Arc::clone(grants),
            found: Mutex::default(),
        });
        let checked = Arc::clone(&rules);
        wasi.allow_tcp(tcp)
            .allow_udp(udp)
            .allow_ip_name_lookup(true)
            .socket_addr_check(move |address, usage| {
                let allowed = checked.allow(address, usage);
                Box::pin(std::future::ready(allowed))
            });
        Some(Self {
            rules,
            permits: Arc::clone(permits),
            open: Vec::new(),
            lookups: 0,
            pending: Vec::new(),
        })
    }
}

/// Decides about each address.
struct Rules {
    grants: Arc<Grants>,
    /// Where allowed names led to in this sandbox.
    found: Mutex<Vec<(IpAddr, Arc<str>)>>,
}

impl Rules {
    fn allow(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        // What the system does by itself for a socket that goes out.
        let outgoing = address.ip().is_unspecified() && address.port() == 0;
        match usage {
            SocketAddrUse::TcpConnect => self.reach("tcp", address),
            // What others send is not the guest's doing, and fills no log.
            SocketAddrUse::UdpReceive => self.may_reach("udp", address),
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if outgoing => true,
            SocketAddrUse::UdpSend => self.reach("udp", address),
            SocketAddrUse::TcpBind
            | SocketAddrUse::UdpBind
            | SocketAddrUse::TcpListen
            | SocketAddrUse::TcpAccept => {
                tracing::warn!(
                    component = %self.grants.component.id,
                    "listening on `{address}` refused: components only connect"
                );
                false
            }
        }
    }

    fn reach(&self, scheme: &str, address: SocketAddr) -> bool {
        let allowed = self.may_reach(scheme, address);
        if !allowed {
            let host = match address.ip() {
                IpAddr::V4(ip) => UrlHost::Ipv4(ip),
                IpAddr::V6(ip) => UrlHost::<&str>::Ipv6(ip),
            };
            let component = &self.grants.component;
            refusal::log(component, scheme, &host.to_string(), Some(address.port()));
        }
        allowed
    }

    fn may_reach(&self, scheme: &str, address: SocketAddr) -> bool {
        let allowed = &self.grants.component.allowed_hosts;
        let (ip, port) = (address.ip(), address.port());
        if allowed.allow_ip(scheme, ip, port) {
            return true;
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = found.iter().filter(|(found, _)| *found == ip);
        names.any(|(_, name)| allowed.allow(scheme, name, Some(port)))
    }

    /// Whether `name` may be looked up.
    fn may_look_up(&self, name: &str) -> bool {
        let component = &self.grants.component;
        let allowed = component.allowed_hosts.allow_lookup(name)
            // A component's name must not reach the resolver.
            && !name.ends_with(SERVICE_CHAINING_SUFFIX);
        if !allowed {
            refusal::log(component, "tcp", name, None);
        }
        allowed
    }

    fn remember(&self, ip: IpAddr, name: &Arc<str>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.iter().any(|known| *known == (ip, Arc::clone(name))) {
            found.push((ip, Arc::clone(name)));
        }
    }
}

/// Marks the view for the linker.
pub(super) struct GrantedSockets;

impl HasData for GrantedSockets {
    type Data<'a> = SocketsView<'a>;
}

/// What socket calls see of a sandbox.
pub(super) struct SocketsView<'a> {
    pub(super) wasi: WasiSocketsCtxView<'a>,
    /// None where the component may use none: then `wasi` refuses by itself.
    pub(super) granted: Option<&'a mut Sockets>,
}

impl SocketsView<'_> {
    /// A permit for one more socket.
    fn admit(&mut self) -> SocketResult<Option<OwnedSemaphorePermit>> {
        let Some(sockets) = &mut self.granted else {
            return Ok(None);
        };
        let table = &*self.wasi.table;
        sockets
            .open
            .retain(|open| (open.exists)(table, open.resource));
        let permit = Arc::clone(&sockets.permits).try_acquire_owned();
        match permit {
            Ok(permit) if sockets.open.len() < MAX_SOCKETS_EACH => Ok(Some(permit)),
            _ => Err(ErrorCode::NewSocketLimit.into()),
        }
    }

    /// Keeps the permit for as long as the socket exists.
    fn keep<T: 'static>(&mut self, socket: &Resource<T>, permit: Option<OwnedSemaphorePermit>) {
        if let (Some(sockets), Some(permit)) = (&mut self.granted, permit) {
            sockets.open.push(Open {
                resource: socket.rep(),
                exists: |table, rep| table.get(&Resource::<T>::new_borrow(rep)).is_ok(),
                _permit: permit,
            });
        }
    }
}

impl HostNetwork for SocketsView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        HostNetwork::drop(&mut self.wasi, network)
    }
}

impl NetworkHost for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.network_error_code(error)
    }
}

impl tcp_create_socket::Host for SocketsView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let permit = self.admit()?;
        let socket = self.wasi.create_tcp_socket(family)?;
        self.keep(&socket, permit);
        Ok(socket)
    }
}

impl udp_create_socket::Host for SocketsView<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<UdpSocket>> {
        let permit = self.admit()?;
        let socket = self.wasi.create_udp_socket(family).await?;
        self.keep(&socket, permit);
        Ok(socket)
    }
}

impl ip_name_lookup::Host for SocketsView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        // An address is no name: nothing is asked, and nothing is learnt from it.
        let Ok(UrlHost::Domain(name)) = UrlHost::parse(&name) else {
            return self.wasi.resolve_addresses(network, name);
        };
        let Some(sockets) = &mut self.granted else {
            return self.wasi.resolve_addresses(network, name);
        };
        if !sockets.rules.may_look_up(&name) {
            return Err(ErrorCode::AccessDenied.into());
        }
        if sockets.lookups >= MAX_LOOKUPS {
            return Err(ErrorCode::TemporaryResolverFailure.into());
        }
        sockets.lookups += 1;
        let shared = Arc::from(name.as_str());
        let stream = self.wasi.resolve_addresses(network, name)?;
        sockets.pending.push((stream.rep(), shared));
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for SocketsView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let resource = stream.rep();
        let address = self.wasi.resolve_next_address(stream)?;
        if let (Some(sockets), Some(address)) = (&self.granted, address) {
            let name = sockets.pending.iter().find(|(rep, _)| *rep == resource);
            if let Some((_, name)) = name {
                sockets.rules.remember(ip_of(address), name);
            }
        }
        Ok(address)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.wasi.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        if let Some(sockets) = &mut self.granted {
            sockets.pending.retain(|(rep, _)| *rep != stream.rep());
        }
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.wasi, stream)
    }
}

fn ip_of(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4(octets) => Ipv4Addr::from(<[u8; 4]>::from(octets)).into(),
        IpAddress::Ipv6(segments) => Ipv6Addr::from(<[u16; 8]>::from(segments)).into(),
    }
}
