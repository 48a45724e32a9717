//! Downloads of files whose SHA-256 is known.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::catalog::{DownloadLimits, Progress};
use super::hexadecimal;
use crate::error::{Error, Result};

/// Prefix of the names of incomplete files.
const TEMPORARY: &str = ".softstep-download-";

/// Downloads `file` into `folder` from the first of the mirrors (base URLs) whose file has this SHA-256.
///
/// Mirrors that fail move to the end of the list, so that the next file starts with one that works. The file gets its
/// name once it is complete and verified; until then it is a temporary file in the same folder.
pub(super) fn download(
    mirrors: &mut [String],
    file: &str,
    sha256: &str,
    folder: &Path,
    limits: DownloadLimits,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let mut failures = Vec::new();
    for _ in 0..mirrors.len() {
        let url = format!("{}/{file}", mirrors[0].trim_end_matches('/'));
        match from_mirror(&url, file, sha256, folder, limits, progress)? {
            Ok(()) => return Ok(()),
            Err(failure) => failures.push(format!("{url}: {failure}")),
        }
        mirrors.rotate_left(1);
    }
    Err(Error::Download { what: file.into(), problem: failures.join("; ") })
}

/// Downloads a file from one mirror. The outer error is a fault of this machine, which another mirror cannot mend; the
/// inner one is a fault of the mirror.
fn from_mirror(
    url: &str,
    file: &str,
    sha256: &str,
    folder: &Path,
    limits: DownloadLimits,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<std::result::Result<(), String>> {
    let response = match agent(limits).get(url).call() {
        Ok(response) => response,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let total = response.body().content_length();
    let too_long = || Ok(Err(format!("it sends more than {} bytes, the limit of a file", limits.bytes)));
    if total.is_some_and(|total| total > limits.bytes) {
        return too_long();
    }
    let mut body = response.into_body().into_reader();
    std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    remove_abandoned(folder, limits.total);
    let mut target = temporary_file(folder)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    let mut received = 0;
    let mut watch = SpeedWatch { since: Instant::now(), received: 0 };
    loop {
        let count = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Ok(Err(format!("after {received} bytes: {error}"))),
        };
        received += count as u64;
        if received > limits.bytes {
            return too_long();
        }
        if watch.is_too_slow(received, limits) {
            return Ok(Err(format!(
                "after {received} bytes: it sends less than {} bytes a second",
                limits.least_speed
            )));
        }
        hash.update(&chunk[..count]);
        target.write_all(&chunk[..count]).map_err(Error::io("write to", folder))?;
        progress(Progress::Download { file, received, total });
    }
    if hexadecimal(&hash.finalize()) != sha256 {
        return Ok(Err(format!("what it sent, {received} bytes, is not the published file (by its SHA-256)")));
    }
    let path = folder.join(file);
    target.persist(&path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(Ok(()))
}

/// Monitor of the download speed over consecutive intervals of [`DownloadLimits::stall`].
struct SpeedWatch {
    since: Instant,
    received: u64,
}

impl SpeedWatch {
    fn is_too_slow(&mut self, received: u64, limits: DownloadLimits) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed < limits.stall {
            return false;
        }
        let speed = (received - self.received) as f64 / elapsed.as_secs_f64();
        *self = Self { since: Instant::now(), received };
        speed < limits.least_speed as f64
    }
}

/// Removes temporary files older than the longest download: the process that wrote them was killed.
fn remove_abandoned(folder: &Path, total: Duration) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
        if age.is_some_and(|age| age > total) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn agent(limits: DownloadLimits) -> ureq::Agent {
    ureq::Agent::config_builder()
        .user_agent(concat!("softstep/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.stall))
        .timeout_global(Some(limits.total))
        .timeout_per_read(Some(limits.stall))
        .timeout_per_write(Some(limits.stall))
        .build()
        .into()
}

fn temporary_file(folder: &Path) -> Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // The usual mode of new files: the umask decides who may read a shared folder of data.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(TEMPORARY).tempfile_in(folder).map_err(Error::io("write to", folder))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    const CONTENT: &[u8] = b"the published file";

    /// Starts a server on localhost that passes every request line to `answer`; returns its base URL.
    fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
                answer(&request[0], &mut stream);
            }
        });
        base
    }

    fn respond(stream: &mut TcpStream, status: &str, length: usize, body: &[u8]) {
        // A client may hang up early.
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(body);
    }

    fn good() -> String {
        serve(|request, stream| {
            assert_eq!(request, "GET /some/set/file.gz HTTP/1.1");
            respond(stream, "200 OK", CONTENT.len(), CONTENT);
        })
    }

    fn missing() -> String {
        serve(|_, stream| respond(stream, "404 Not Found", 4, b"none"))
    }

    struct Outcome {
        result: Result<()>,
        mirrors: Vec<String>,
        progress: Vec<(u64, Option<u64>)>,
        folder: tempfile::TempDir,
    }

    impl Outcome {
        /// Downloads into an empty folder.
        fn of(bases: &[String]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let limits = DownloadLimits {
                connect: Duration::from_secs(2),
                stall: Duration::from_millis(300),
                least_speed: 100,
                total: Duration::from_secs(3),
                bytes: 1 << 20,
            };
            let mut mirrors: Vec<_> = bases.iter().map(|base| format!("{base}/some/set/")).collect();
            let mut events = Vec::new();
            let mut progress = |event: Progress<'_>| match event {
                Progress::Download { file: "file.gz", received, total } => events.push((received, total)),
                other => panic!("{other:?}"),
            };
            let sha256 = hexadecimal(&Sha256::digest(CONTENT));
            let result = download(&mut mirrors, "file.gz", &sha256, folder.path(), limits, &mut progress);
            Self { result, mirrors, progress: events, folder }
        }

        fn files(&self) -> Vec<PathBuf> {
            self.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
        }

        fn assert_success(&self) {
            self.result.as_ref().unwrap();
            assert_eq!(self.files(), [self.folder.path().join("file.gz")]);
            assert_eq!(std::fs::read(&self.files()[0]).unwrap(), CONTENT);
        }

        /// Checks that the error says `what` and that no file is left, complete or not.
        fn assert_failure(&self, what: &str) {
            let message = self.result.as_ref().unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
            assert!(message.contains(&format!("{}file.gz: ", self.mirrors[0])), "{message}");
            assert!(self.files().is_empty(), "{:?}", self.files());
        }
    }

    #[test]
    fn a_download_is_stored_under_its_name_and_reports_progress() {
        let outcome = Outcome::of(&[good()]);
        outcome.assert_success();
        let length = CONTENT.len() as u64;
        assert_eq!(outcome.progress.last(), Some(&(length, Some(length))));
    }

    #[cfg(unix)]
    #[test]
    fn a_downloaded_file_can_be_read_by_whom_the_umask_lets() {
        use std::os::unix::fs::PermissionsExt;
        let outcome = Outcome::of(&[good()]);
        let plain = outcome.folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(outcome.folder.path().join("file.gz")), mode(plain));
    }

    #[test]
    fn the_next_mirror_takes_over_and_stays_first() {
        let (missing, good) = (missing(), good());
        let outcome = Outcome::of(&[missing, good.clone()]);
        outcome.assert_success();
        assert!(outcome.mirrors[0].starts_with(&good));
    }

    #[test]
    fn when_no_mirror_has_the_file_the_error_names_them_all() {
        let outcome = Outcome::of(&[missing(), missing()]);
        outcome.assert_failure("404");
        let message = outcome.result.as_ref().unwrap_err().to_string();
        assert!(outcome.mirrors.iter().all(|mirror| message.contains(mirror)), "{message}");
    }

    #[test]
    fn a_file_with_another_hash_is_refused() {
        let wrong = serve(|_, stream| respond(stream, "200 OK", 9, b"a portal!"));
        Outcome::of(std::slice::from_ref(&wrong)).assert_failure("not the published file");
        Outcome::of(&[wrong, good()]).assert_success();
    }

    #[test]
    fn a_file_that_a_server_labels_gzip_is_stored_as_sent() {
        let labelled = serve(|_, stream| {
            let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
            stream.write_all(&[head.as_bytes(), CONTENT].concat()).unwrap();
        });
        Outcome::of(&[labelled]).assert_success();
    }

    #[test]
    fn a_truncated_body_is_refused() {
        let truncated = serve(|_, stream| respond(stream, "200 OK", CONTENT.len(), &CONTENT[..5]));
        Outcome::of(std::slice::from_ref(&truncated)).assert_failure("after 5 bytes: ");
        Outcome::of(&[truncated, good()]).assert_success();
    }

    #[test]
    fn a_server_that_falls_silent_is_given_up() {
        let stalling = || {
            serve(|_, stream| {
                respond(stream, "200 OK", CONTENT.len(), &CONTENT[..5]);
                std::thread::sleep(Duration::from_secs(20));
            })
        };
        let start = Instant::now();
        Outcome::of(&[stalling()]).assert_failure("after 5 bytes: timeout");
        Outcome::of(&[stalling(), good()]).assert_success();
        let silent = serve(|_, _| std::thread::sleep(Duration::from_secs(20)));
        Outcome::of(&[silent]).assert_failure("timeout");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    /// A server that sends the content of a large file byte by byte.
    fn dripping(pause: Duration, count: usize) -> String {
        serve(move |_, stream| {
            respond(stream, "200 OK", 1 << 19, &[]);
            let chunk = vec![0; count];
            while stream.write_all(&chunk).is_ok() {
                std::thread::sleep(pause);
            }
        })
    }

    #[test]
    fn a_server_that_is_too_slow_is_given_up_at_the_least_speed_or_the_deadline() {
        let start = Instant::now();
        let slow = || dripping(Duration::from_millis(50), 1);
        Outcome::of(&[slow()]).assert_failure("less than 100 bytes a second");
        Outcome::of(&[slow(), good()]).assert_success();
        // Never slow enough for that, and never at its end.
        Outcome::of(&[dripping(Duration::from_millis(50), 100)]).assert_failure("timeout");
        // Header by header.
        let headers = serve(|_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(b"X-A: b\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Outcome::of(&[headers]).assert_failure("timeout");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn what_killed_downloads_left_behind_is_removed_and_what_others_fill_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, age: u64| {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        put(".softstep-download-old", 4000);
        put(".softstep-download-new", 100);
        put("notes.txt", 4000);
        let mut mirrors = [format!("{}/some/set/", good())];
        let sha256 = hexadecimal(&Sha256::digest(CONTENT));
        let limits = DownloadLimits::default();
        download(&mut mirrors, "file.gz", &sha256, folder.path(), limits, &mut |_| {}).unwrap();
        let mut left: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".softstep-download-new", "file.gz", "notes.txt"]);
    }

    #[test]
    fn a_body_beyond_the_limit_is_cut_off() {
        for length in ["Content-Length: 99999999999\r\n", ""] {
            let endless = serve(move |_, stream| {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n");
                while stream.write_all(&[0; 1 << 16]).is_ok() {}
            });
            let outcome = Outcome::of(&[endless]);
            outcome.assert_failure("more than 1048576 bytes");
            assert!(outcome.progress.iter().all(|&(received, total)| received <= 1 << 20 && total.is_none()));
        }
    }

    #[test]
    fn a_host_that_is_not_there_is_an_error() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Outcome::of(&[format!("http://{closed}")]).assert_failure("refused");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_this_machines_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut mirrors = [format!("{}/some/set", good())];
        let limits = DownloadLimits::default();
        let error = download(&mut mirrors, "file.gz", "", &file.join("set"), limits, &mut |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("cannot create folder"), "{error}");
    }
}
