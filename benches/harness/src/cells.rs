//! The cells of the matrix: what is asked of every server.

use crate::load::Pace;
use crate::load::protocol::Protocol;
use crate::servers::{Server, Service};

pub struct Cell {
    pub name: &'static str,
    pub about: &'static str,
    pub service: Service,
    pub connections: usize,
    pub task: Task,
    /// The size of a handler's read buffer.
    pub buffer_bytes: usize,
    /// Part of the quick matrix.
    pub is_quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// So many requests under way on each connection; an echo has so many bytes.
    Closed { bytes: usize, depth: usize },
    /// A fixed number of requests a second, over all connections.
    Open,
    /// Each request has its own connection.
    Churn,
    /// One request on each connection, then nothing: what does a resting one cost?
    Idle,
}

const fn echo(name: &'static str, about: &'static str, connections: usize, bytes: usize) -> Cell {
    let buffer_bytes = if bytes > 4096 { 65536 } else { 4096 };
    let task = Task::Closed { bytes, depth: 1 };
    let service = Service::Echo;
    Cell { name, about, service, connections, task, buffer_bytes, is_quick: false }
}

const fn http(
    name: &'static str,
    about: &'static str,
    service: Service,
    connections: usize,
) -> Cell {
    let task = Task::Closed { bytes: 0, depth: 1 };
    Cell { name, about, service, connections, task, buffer_bytes: 4096, is_quick: false }
}

impl Cell {
    const fn quick(mut self) -> Cell {
        self.is_quick = true;
        self
    }

    const fn with(mut self, task: Task) -> Cell {
        self.task = task;
        self
    }

    const fn with_buffer(mut self, bytes: usize) -> Cell {
        self.buffer_bytes = bytes;
        self
    }

    pub fn protocol(&self) -> Protocol {
        match (self.service, self.task) {
            (Service::Echo, Task::Closed { bytes, .. }) => Protocol::Echo { bytes },
            (Service::Echo, _) => Protocol::Echo { bytes: 64 },
            (Service::Http, _) => Protocol::Http,
            (Service::Redis, _) => Protocol::Redis,
        }
    }

    pub fn pace(&self, per_second: f64) -> Pace {
        match self.task {
            Task::Closed { depth, .. } => Pace::Closed { depth },
            Task::Open => Pace::Open { per_second },
            Task::Churn => Pace::Churn,
            Task::Idle => Pace::Closed { depth: 1 },
        }
    }

    pub fn is_for(&self, server: &Server) -> bool {
        server.services.contains(&self.service) && self.connections <= server.most_connections
    }
}

const PIPELINED: Task = Task::Closed { bytes: 64, depth: 16 };

pub const ALL: &[Cell] = &[
    echo("echo-64-1", "echo of 64 bytes, 1 connection", 1, 64).quick(),
    echo("echo-64-64", "echo of 64 bytes, 64 connections", 64, 64).quick(),
    echo("echo-64-1000", "echo of 64 bytes, 1000 connections", 1000, 64).quick(),
    echo("echo-64-10000", "echo of 64 bytes, 10 000 connections", 10_000, 64),
    echo("echo-4k-64", "echo of 4 KiB, 64 connections", 64, 4096).with_buffer(65536),
    echo("echo-64k-64", "echo of 64 KiB, 64 connections", 64, 65536),
    echo("echo-pipelined-64", "echo of 64 bytes, 16 under way on each of 64", 64, 64)
        .with(PIPELINED),
    http("http-64", "HTTP hello, 64 connections", Service::Http, 64).quick(),
    http("http-1000", "HTTP hello, 1000 connections", Service::Http, 1000),
    echo("churn-64", "connect, echo of 64 bytes, close; 64 at a time", 64, 64).with(Task::Churn),
    http("redis-64", "HTTP, a key from Redis for each request, 64 connections", Service::Redis, 64)
        .quick(),
    echo("open-64", "echo of 64 bytes at a fixed rate, 64 connections", 64, 64).with(Task::Open),
    echo("idle-10000", "10 000 connections at rest after one echo, 64-byte buffers", 10_000, 64)
        .with(Task::Idle)
        .with_buffer(64)
        .quick(),
];

pub fn find(name: &str) -> Option<&'static Cell> {
    ALL.iter().find(|cell| cell.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, cell) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != cell.name), "{}", cell.name);
        }
    }

    #[test]
    fn an_echo_fits_its_buffer() {
        for cell in ALL.iter().filter(|cell| cell.service == Service::Echo) {
            if let Task::Closed { bytes, depth } = cell.task {
                assert!(bytes * depth <= cell.buffer_bytes, "{}", cell.name);
            }
        }
    }
}
