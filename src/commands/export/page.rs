//! A model as a page: one HTML file that predicts in any browser, with no server and no network.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail};
use base64::Engine;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::exported::Export;

/// The page without a model, which `src/web/build` makes: it holds the library as WebAssembly.
#[cfg(feature = "page")]
const PAGE: Option<&str> = Some(include_str!("../../../target/site/predict.html"));
#[cfg(not(feature = "page"))]
const PAGE: Option<&str> = None;

/// Variable that names such a page.
const VARIABLE: &str = "SOFTSTEP_PAGE";

/// Place of the model in the page, and of the page's title in its head.
const MODEL: &str = r#"<script type="application/gzip" id="softstep-model"></script>"#;
const HEAD: &str = "<head>";

/// Writes the page of a model, whose file has these bytes.
pub fn to_page(export: &Export<'_>, model: &[u8]) -> Result<String> {
    let page = match (std::env::var_os(VARIABLE).filter(|name| !name.is_empty()), PAGE) {
        (Some(name), _) => fs::read_to_string(&name).with_context(|| format!("{VARIABLE}={}", name.display()))?,
        (None, Some(page)) => page.to_owned(),
        (None, None) => bail!(
            "this softstep was built without the page: in its source, run src/web/build and then cargo build --release \
             --features page; or name the predict.html of a site of softstep's in {VARIABLE}"
        ),
    };
    if page.matches(MODEL).count() != 1 || page.matches(HEAD).count() != 1 {
        bail!("{VARIABLE}: it is no predict.html of a site of softstep's: src/web/build makes one");
    }
    // Weights hardly get smaller with more effort.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(model)?;
    let packed = base64::engine::general_purpose::STANDARD.encode(encoder.finish()?);
    let model = MODEL.replace("></script>", &format!(" data-name=\"model.safetensors\">{packed}</script>"));
    let head = format!("{HEAD}\n<meta name=\"generator\" content=\"{}\">", escaped(&export.title()));
    Ok(page.replacen(HEAD, &head, 1).replacen(MODEL, &model, 1))
}

/// Escapes text for an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
