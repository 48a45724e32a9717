//! A mirror on localhost.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Serves until the test ends: `answer` gets the path of a request and gives the file, or `None` if there is no such.
/// Returns the base URL.
pub fn serve(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            // A browser keeps connections open that ask for nothing yet.
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
                let Some(first) = request.first() else { return };
                let path = first.strip_prefix("GET ").and_then(|line| line.strip_suffix(" HTTP/1.1"));
                let file = path.and_then(|path| (answer.lock().unwrap())(path));
                let status = if file.is_some() { "200 OK" } else { "404 Not Found" };
                let body = file.unwrap_or_default();
                let kind = match path.unwrap_or_default().split('?').next().and_then(|path| path.rsplit_once('.')) {
                    Some((_, "js")) => "text/javascript",
                    Some((_, "css")) => "text/css",
                    Some((_, "wasm")) => "application/wasm",
                    Some((_, "html")) | None => "text/html",
                    Some(_) => "application/octet-stream",
                };
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&body);
            });
        }
    });
    base
}
