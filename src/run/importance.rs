//! Permutation importance: what a model loses in quality when a column of a table is shuffled.

use serde::{Deserialize, Serialize};
use softstep::backend::{Evaluation, Inference};
use softstep::data::{Data, Examples, Features, Preprocessing, TableFormat};
use softstep::trainer::epoch_order;

/// Number of shuffles of each column.
const SHUFFLES: usize = 5;

/// Importance of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// Name of the column.
    pub column: String,
    /// Mean loss of accuracy, or of R², while the column is shuffled.
    pub loss: f64,
    /// Standard deviation of the loss between shuffles.
    pub deviation: f64,
}

/// Columns of the data, if they are of a table.
pub fn table(data: &Data) -> Option<&TableFormat> {
    match &data.preprocessing {
        Some(Preprocessing::Table(format)) => Some(format),
        _ => None,
    }
}

/// Measures the importance of every column on `examples`, the most important first. The features of a column are shuffled
/// together; the same seed gives the same shuffles. Source: Breiman 2001, "Random forests".
pub async fn importances<B: Inference>(
    backend: &mut B,
    format: &TableFormat,
    examples: &Examples,
    seed: u64,
) -> softstep::Result<Vec<Importance>> {
    let Features::Floats(values) = &*examples.inputs else { return Ok(Vec::new()) };
    let set = backend.upload(examples)?;
    let whole = quality(&backend.evaluate(&set).await?);
    let mut all = Vec::with_capacity(format.columns.len());
    let mut first = 0;
    for (index, column) in format.columns.iter().enumerate() {
        let features = first..first + column.features();
        first = features.end;
        let mut losses = Vec::with_capacity(SHUFFLES);
        for shuffle in 0..SHUFFLES {
            let rows = epoch_order(seed, index * SHUFFLES + shuffle, examples.len());
            let mut shuffled = values.clone();
            for (row, &from) in shuffled.chunks_exact_mut(examples.features).zip(&rows) {
                row[features.clone()].copy_from_slice(&values[from as usize * examples.features..][features.clone()]);
            }
            let set = backend.upload(&Examples { inputs: Features::Floats(shuffled).into(), ..examples.clone() })?;
            losses.push(whole - quality(&backend.evaluate(&set).await?));
        }
        let loss = losses.iter().sum::<f64>() / SHUFFLES as f64;
        let variance = losses.iter().map(|each| (each - loss).powi(2)).sum::<f64>() / SHUFFLES as f64;
        all.push(Importance { column: column.name.clone(), loss, deviation: variance.sqrt() });
    }
    // R² is undefined where the targets do not vary.
    all.retain(|importance| importance.loss.is_finite() && importance.deviation.is_finite());
    // The sort is stable: equally important columns stay in the order of the table.
    all.sort_by(|a, b| b.loss.total_cmp(&a.loss));
    Ok(all)
}

/// Accuracy or R².
fn quality(evaluation: &Evaluation) -> f64 {
    evaluation.accuracy().or(evaluation.r_squared).unwrap_or(f64::NAN)
}
