//! `site WASM SOURCES STYLE FOLDER [MOST]`: makes the site of a wasm file, the sources of the page and the style that all pages
//! of softstep share.
//!
//! The folder then holds the page as it is written, with `worker.js` (the bindings, and the Worker behind them) and
//! `softstep_bg.wasm`; and as `softstep.html` the same in one file, which needs no server and no network. `predict.html`
//! becomes such a file alone, without a model: `softstep export --page` puts one in.

mod bundle;

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use flate2::Compression;
use flate2::write::GzEncoder;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wasm, sources, style, folder, most @ ..] = &arguments[..] else {
        eprintln!("error: usage: site WASM SOURCES STYLE FOLDER [MOST]");
        return ExitCode::FAILURE;
    };
    let most = most.first().and_then(|most| most.parse().ok());
    match make([wasm, sources, style, folder].map(Path::new), most) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make([wasm, sources, style, folder]: [&Path; 4], most: Option<usize>) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(wasm)
        .out_name("softstep")
        .no_modules(true)?
        .typescript(false)
        .remove_producers_section(true)
        .generate(folder)?;
    let bindings = folder.join("softstep.js");
    let worker = without_documentation(&fs::read_to_string(&bindings)?) + "\n" + &read(&sources.join("worker.js"))?;
    fs::remove_file(&bindings)?;
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if ["html", "css", "js", "svg"].iter().any(|end| path.extension().is_some_and(|extension| extension == *end)) {
            fs::copy(&path, folder.join(name))?;
        }
    }
    fs::copy(style, folder.join("pages.css"))?;
    fs::write(folder.join("worker.js"), &worker)?;
    let module = fs::read(folder.join("softstep_bg.wasm"))?;
    for (page, name) in [("index.html", "softstep.html"), ("predict.html", "predict.html")] {
        if folder.join(page).exists() {
            let whole = inlined(folder, &read(&folder.join(page))?, &worker, &module)?;
            fs::write(folder.join(name), whole)?;
        }
    }
    say_sizes(folder, most)
}

/// Generated bindings without what they repeat of the documentation in the sources.
fn without_documentation(bindings: &str) -> String {
    let mut parts = bindings.split("/**");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + part.split_once("*/").map_or(part, |(_, code)| code))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A page with its styles, scripts, Worker and wasm in it.
fn inlined(folder: &Path, page: &str, worker: &str, module: &[u8]) -> Result<String> {
    let mut whole = String::new();
    let mut rest = page;
    loop {
        let place = [rest.find("<link rel=\"stylesheet\""), rest.find("<script type=\"module\" src=")];
        let Some(at) = place.into_iter().flatten().min() else { break };
        whole += &rest[..at];
        let end = if rest[at..].starts_with("<link") { ">" } else { "</script>" };
        let length = rest[at..].find(end).ok_or("a tag of the page has no end")? + end.len();
        let tag = &rest[at..at + length];
        let name = tag.split("href=\"").nth(1).or(tag.split("src=\"").nth(1)).and_then(|name| name.split('"').next());
        let name = name.ok_or("a tag of the page names no file")?;
        if tag.starts_with("<link") {
            whole += &format!("<style>\n{}</style>", read(&folder.join(name))?);
        } else {
            // What the script looks for stands before it.
            for (id, content) in [("softstep-worker", worker.as_bytes()), ("softstep-wasm", module)] {
                whole += &format!("<script type=\"application/gzip\" id=\"{id}\">{}</script>\n", packed(content)?);
            }
            let script = bundle::bundled(folder, name)?;
            whole += &format!("<script type=\"module\">\n{}</script>", script.replace("</script", "<\\/script"));
        }
        rest = &rest[at + length..];
    }
    Ok(whole + rest)
}

fn gzipped(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Gzip in base64, as a page unpacks it.
fn packed(bytes: &[u8]) -> Result<String> {
    Ok(base64::engine::general_purpose::STANDARD.encode(gzipped(bytes)?))
}

/// Prints the sizes of the files, and refuses a site whose wasm, scripts, styles and text have more than `most` bytes
/// together, gzipped.
fn say_sizes(folder: &Path, most: Option<usize>) -> Result<()> {
    let (mut sum, mut files) = (0, Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let small = gzipped(&bytes)?.len();
        // These hold the others once more.
        let is_whole = ["softstep.html", "predict.html"].contains(&&*name);
        sum += if is_whole { 0 } else { small };
        files.push((name, bytes.len(), small));
    }
    files.sort();
    for (name, bytes, small) in files {
        println!("{name:20} {bytes:>9} bytes {small:>9} gzipped");
    }
    println!("{:20} {:>15} {sum:>9} gzipped", "in all", "");
    match most {
        Some(most) if sum > most => Err(format!("the site has {sum} bytes gzipped, and {most} are the limit").into()),
        _ => Ok(()),
    }
}
