//! Two copies of a server on one port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::dns;
use crate::port::Port;
use crate::recipes::Server;
use crate::running::{PATIENCE, RunningCopy, wait_for};
use crate::sockets;

pub struct Pair {
    pub port: Port,
    copies: [RunningCopy; 2],
}

impl Pair {
    /// Starts one copy after the other, and waits until both serve.
    ///
    /// # Panics
    /// One of them does not.
    pub fn start(server: &Server, launcher: &[&str]) -> Self {
        let port = Port::free();
        let mut first = RunningCopy::start(server, launcher, port.number, 1);
        if let Err(problem) = first.wait_until_serving(1) {
            panic!("{problem}");
        }
        let mut second = RunningCopy::start(server, launcher, port.number, 2);
        if let Err(problem) = second.wait_until_serving(1) {
            panic!("{problem}\n{}", first.report());
        }
        Self {
            port,
            copies: [first, second],
        }
    }

    /// How many of `clients` each copy accepts, when `at_once` connect at a time.
    ///
    /// # Panics
    /// One is accepted by neither.
    pub fn share(&mut self, clients: usize, at_once: usize) -> [usize; 2] {
        let mut counts = [0; 2];
        while counts[0] + counts[1] < clients {
            match self.connect(at_once) {
                Ok(accepted_by) => accepted_by.into_iter().for_each(|copy| counts[copy] += 1),
                Err(problem) => self.fail(&problem),
            }
        }
        counts
    }

    /// The copies that accept each of `clients`, which close their connections as
    /// soon as that is known. The server need not cooperate: the kernel tells
    /// which process holds the other end.
    fn connect(&self, clients: usize) -> Result<Vec<usize>, String> {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number));
        let mut waiting = (0..clients)
            .map(|_| TcpStream::connect_timeout(&server, PATIENCE))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| format!("connecting: {error}"))?;
        let mut accepted_by = Vec::new();
        let all = wait_for(|| {
            let inodes = sockets::accepted(self.port.number);
            let held = self.copies.each_ref().map(RunningCopy::sockets);
            waiting.retain(|connection| {
                let client = connection.local_addr().expect("it is connected").port();
                let inode = inodes.get(&client);
                let copy =
                    inode.and_then(|inode| held.iter().position(|held| held.contains(inode)));
                accepted_by.extend(copy);
                copy.is_none()
            });
            waiting.is_empty().then_some(())
        });
        all.map(|()| accepted_by)
            .ok_or_else(|| "a connection that neither copy accepts".to_owned())
    }

    /// How many of `questions`, each sent from a socket of its own, each copy
    /// answers. They are name servers; copy N says that the address of `who` is
    /// 10.0.0.N.
    ///
    /// # Panics
    /// One is answered by neither.
    pub fn ask(&mut self, questions: usize) -> [usize; 2] {
        let mut counts = [0; 2];
        for _ in 0..questions {
            match self.question() {
                Ok(1) => counts[0] += 1,
                Ok(2) => counts[1] += 1,
                Ok(other) => self.fail(&format!("an answer that is 10.0.0.{other}")),
                Err(problem) => self.fail(&problem),
            }
        }
        counts
    }

    fn question(&self) -> Result<u8, String> {
        let exchange = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            socket.connect((Ipv4Addr::LOCALHOST, self.port.number))?;
            socket.send(&dns::question("who"))?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer)?;
            Ok(answer[..length].to_owned())
        };
        let answer = exchange().map_err(|error: io::Error| format!("asking: {error}"))?;
        let address = dns::address(&answer);
        let [.., last] = address.ok_or_else(|| format!("an answer without address: {answer:?}"))?;
        Ok(last)
    }

    pub fn fail(&mut self, problem: &str) -> ! {
        let [first, second] = &mut self.copies;
        panic!("{problem}\n{}\n{}", first.report(), second.report());
    }
}
