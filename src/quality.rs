//! Quality of a model on a test part as text: its measure, its error in the units of the target, and the same of guessing.

use softstep::backend::Evaluation;
use softstep::data::{Data, Part, Preprocessing, Targets};

use crate::format::{UNDEFINED, figure, percent, significant};
use crate::terminal::printable;

/// Root mean squared error in the units of the target, also if the model learned it standardised; of several standardised
/// targets in their deviations; `None` for classes.
pub fn rmse(data: &Data, evaluation: &Evaluation) -> Option<f64> {
    Some(evaluation.squared_error?.sqrt() * unit(data))
}

/// Unit of the errors of a data set.
fn unit(data: &Data) -> f64 {
    data.preprocessing.as_ref().map_or(1.0, Preprocessing::error_unit)
}

/// Formats [`rmse`] as in `12.34 (root mean square), in the units of price`, or `0.6 (root mean square), in deviations`.
pub fn error_text(data: &Data, evaluation: &Evaluation) -> String {
    let rmse = rmse(data, evaluation).unwrap_or(f64::NAN);
    let target = data.preprocessing.as_ref().and_then(Preprocessing::target);
    let mut units = target.map(|target| format!(", in the units of {}", printable(target)));
    if data.preprocessing.as_ref().is_some_and(|preprocessing| preprocessing.target_scales().len() > 1) {
        units = Some(", in deviations of the targets".into());
    }
    format!("{} (root mean square){}", significant(rmse, 4), units.unwrap_or_default())
}

/// Noun for examples in a rate.
pub fn example_unit(data: &Data) -> &'static str {
    match data.preprocessing {
        _ if data.image.is_some() => "images",
        Some(Preprocessing::Table(_)) => "rows",
        _ => "examples",
    }
}

/// The most frequent class of the test examples, and its share; `None` for real values.
pub fn most_frequent(data: &Data) -> Option<(usize, f64)> {
    let Targets::Classes(labels) = &*data.test.targets else { return None };
    let mut counts = vec![0usize; data.test.outputs];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    // The first of several equally frequent classes.
    let (class, count) = counts.into_iter().enumerate().rev().max_by_key(|&(_, count)| count)?;
    Some((class, count as f64 / labels.len() as f64))
}

/// Root mean squared error of always predicting the mean of the test targets, in their units; `None` for classes.
pub fn rmse_of_mean(data: &Data) -> Option<f64> {
    Some(data.test.variance()?.sqrt() * unit(data))
}

/// Formats the quality of a guess: the share of the most frequent class, or the error of the mean. `part` is what the
/// test examples are.
pub fn guess_text(data: &Data, part: Part) -> Option<String> {
    let part = match part {
        Part::Test => "the test part",
        Part::All => "all examples",
    };
    match (most_frequent(data), rmse_of_mean(data)) {
        (Some((class, share)), _) => {
            let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
            let name = names.map_or_else(|| class.to_string(), |names| printable(&names[class]));
            Some(format!("always {name}, the most frequent class of {part}, would be right in {}", percent(share)))
        }
        (None, Some(error)) => {
            Some(format!("always the mean would have an error of {} (root mean square)", significant(error, 4)))
        }
        (None, None) => None,
    }
}

/// Formats an accuracy or R² as in `97.50 %` and `R² 0.9750`.
pub fn quality(evaluation: &Evaluation) -> String {
    match (evaluation.accuracy(), evaluation.r_squared) {
        (Some(accuracy), _) => percent(accuracy),
        (None, r_squared) => format!("R² {}", r_squared_text(r_squared)),
    }
}

/// Formats an R² as in `0.9750`; a dash where the targets do not vary.
pub fn r_squared_text(r_squared: Option<f64>) -> String {
    r_squared.map_or_else(|| UNDEFINED.into(), figure)
}
