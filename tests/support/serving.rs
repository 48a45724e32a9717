//! A running `softstep serve`, and requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::binary::{Run, command, finished, signal};

/// A server, which ends with the test.
pub struct Serving {
    pub child: Option<Child>,
    pub address: String,
}

/// An answer of a server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).into()
    }
}

impl Serving {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let common = ["serve", "--listen=127.0.0.1:0", "--backend=cpu", "--json"];
        let mut child = command(folder, &[&common, arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        assert_eq!(said["event"], "serving");
        let address = said["address"].as_str().unwrap().strip_prefix("http://").unwrap().into();
        Self { child: Some(child), address }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request of a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&request(method, path, &format!("Connection: close\r\n{headers}"), body)).unwrap();
        answer(&mut stream)
    }

    pub fn predict(&self, body: &[u8]) -> Answer {
        self.ask("POST", "/predict?top=99", "", body)
    }

    /// A count of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let answer = self.ask("GET", "/metrics", "", b"");
        assert_eq!(answer.status, 200);
        let value = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} in {}", answer.body))
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap(), name);
    }

    /// Waits for the end.
    pub fn end(mut self) -> Run {
        finished(self.child.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: here\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Reads an answer to its end, which closes the connection.
pub fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.into() }
}
