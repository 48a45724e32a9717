//! Bodies of requests, read as the model reads files.

use hyper::StatusCode;
use softstep::data::GZIP;
use softstep::data::predict_inputs::{Fit, Inputs};

use super::rows;
use crate::commands::predict;
use crate::flags::with_flags;
use crate::run::model::{Input, Model};

/// The name of a body in messages and predictions.
pub const NAME: &str = "body";
/// Most examples of a request.
const MOST_EXAMPLES: usize = 10_000;
/// Most features of all examples of a request.
const MOST_FEATURES: usize = 16 << 20;

/// A request that is not answered with predictions.
#[derive(Debug)]
pub struct Refusal {
    /// Status of the response.
    pub status: StatusCode,
    /// Reason, for people.
    pub reason: String,
}

impl Refusal {
    /// Builds a refusal.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    fn bad(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }
}

/// Reads the examples of a body.
///
/// # Errors
/// A refusal with the reason, where the body is not what the model reads, or holds too much.
pub fn read(model: &Model, fit: Fit, body: &[u8], content_type: Option<&str>) -> Result<Inputs, Refusal> {
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if body.is_empty() {
        return Err(Refusal::bad("the body is empty: send an image, a table, an array or rows in JSON"));
    }
    if media == "multipart/form-data" {
        let reason = "a form is not read: send the file alone as the body, as curl --data-binary @FILE does";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    if body.starts_with(&GZIP) {
        let reason = "a compressed body is not read: send it uncompressed";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let width = model.parameters.features();
    let most = MOST_EXAMPLES.min(MOST_FEATURES / width).max(1);
    let too_many = |count: usize| {
        let reason = format!("{count} examples, and {most} are the most of a request: send them in parts");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    let inputs = if is_json(body, &media) {
        rows::read(model, body, most).map_err(Refusal::bad)?
    } else {
        if matches!(model.input(), Input::Table(_)) {
            // Features take far more memory than the text of a row.
            let lines = body.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
            if lines > 2 * most + 100 {
                return Err(too_many(lines));
            }
        }
        let reading = predict::reading(model, fit, true);
        reading.read(NAME, body).map_err(|error| Refusal::bad(with_flags(&error.to_string())))?
    };
    match inputs.names.len() {
        0 => Err(Refusal::bad("the body holds no example")),
        count if count > most => Err(too_many(count)),
        _ => Ok(inputs),
    }
}

/// Returns true for JSON, by the media type or else by the first character.
fn is_json(body: &[u8], media: &str) -> bool {
    match media {
        "application/json" => true,
        "text/csv" | "text/tab-separated-values" => false,
        _ => matches!(body.trim_ascii_start(), [b'[' | b'{', ..]),
    }
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn json_is_told_by_its_type_or_its_first_character() {
        assert!(is_json(b" \n[[1]]", "") && is_json(b"{", "application/x-www-form-urlencoded"));
        assert!(is_json(b"x", "application/json"));
        assert!(!is_json(b"[a],b\n1,2\n", "text/csv") && !is_json(b"a,b\n", "") && !is_json(b"", ""));
    }
}
