//! Where connections are made from: settings of the object, for all its connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;

use socket2::{Domain, SockAddr, Socket};

use super::proxy::Proxy;
use super::{Cosocket, Error, ErrorKind};

/// What is bound to before a connect. A part of the key of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Local {
    address: Option<SocketAddr>,
    device: Option<Box<str>>,
    is_transparent: bool,
    /// What they are made through.
    pub(super) proxy: Option<Proxy>,
}

impl Cosocket {
    /// Makes connections from this address: a literal IP, and a port, or 0 for any. It is only
    /// noted here, and stays with the object, so an address that cannot be had is an error of
    /// `connect`: `cannot assign requested address`, `address already in use`. Addresses of the
    /// other family are then not connected to.
    ///
    /// ```
    /// use cosocket::{Address, Cosocket, ErrorKind, net::TcpListener};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = Cosocket::new();
    /// socket.bind("127.0.0.2", 0)?;
    /// socket.connect(listener.local_addr()?)?;
    /// let (_server, peer) = listener.accept()?;
    /// assert_eq!(peer.ip().to_string(), "127.0.0.2");
    ///
    /// let error = socket.bind("127.0.0.1000", 0).unwrap_err();
    /// assert_eq!(error.to_string(), "bad address");
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// `BadAddress` for what is no literal IP address.
    pub fn bind(&self, ip: &str, port: u16) -> Result<(), Error> {
        let literal = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        let ip: IpAddr = literal.parse().map_err(|_| ErrorKind::BadAddress)?;
        self.change_local(|local| local.address = Some(SocketAddr::new(ip, port)));
        Ok(())
    }

    /// Makes connections through this network device (`SO_BINDTODEVICE`), which may need a
    /// capability; `None` is any.
    pub fn bind_device(&self, name: Option<&str>) {
        self.change_local(|local| local.device = name.map(Box::from));
    }

    /// Lets [`bind`](Cosocket::bind) take addresses that are not this machine's (`IP_TRANSPARENT`);
    /// `connect` then needs `CAP_NET_ADMIN`. OpenResty's option `ip-transparent`.
    pub fn set_transparent(&self, transparent: bool) {
        self.change_local(|local| local.is_transparent = transparent);
    }

    /// Leaves it to the system again where connections are made from.
    pub fn unbind(&self) {
        self.change_local(|local| *local = Local { proxy: local.proxy.take(), ..Local::default() });
    }

    pub(super) fn change_local(&self, change: impl FnOnce(&mut Local)) {
        change(&mut self.local.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The settings as they are now.
    pub(super) fn local(&self) -> Local {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Local {
    #[cfg(test)]
    pub(crate) fn of_address(address: SocketAddr) -> Local {
        Local { address: Some(address), ..Local::default() }
    }

    /// Applies the settings to a socket that is about to be connected.
    pub(super) fn apply_to(&self, socket: &Socket, domain: Domain) -> std::io::Result<()> {
        if self.is_transparent && domain == Domain::IPV4 {
            socket.set_ip_transparent_v4(true)?;
        }
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if let Some(address) = self.address {
            socket.bind(&SockAddr::from(address))?;
        }
        Ok(())
    }
}

impl fmt::Display for Local {
    /// In the name of a pool; nothing, if it is left to the system.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, " from {address}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " through {device}")?;
        }
        if self.is_transparent {
            f.write_str(", transparent")?;
        }
        if self.proxy.is_some() {
            f.write_str(", through a proxy")?;
        }
        Ok(())
    }
}
