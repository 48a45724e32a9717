//! Commands to go on with after a run.

use std::path::Path;

use softstep::model::Shape;
use softstep::trainer::TrainingConfig;

use super::options::TrainArgs;
use crate::shell;

/// Returns the commands that look at the model of a finished run, try it, and train one that may be better. Each works as it is.
pub fn commands(args: &TrainArgs, config: &TrainingConfig, input: Shape, folder: &Path) -> Vec<String> {
    let run = shell::argument(folder);
    vec![
        format!("softstep eval --model {run} --mistakes wrong.csv"),
        format!("softstep serve {run}"),
        format!("softstep train --config {run} {}", step_up(args, config, input)),
    ]
}

/// The options of a larger model than the run's; for the largest ones, of several models, which tell how sure the result is.
fn step_up(args: &TrainArgs, config: &TrainingConfig, input: Shape) -> &'static str {
    let has_rows = matches!(input, Shape::Image { height, width, .. } if height.min(width) >= 8);
    let is_plain = config.hidden.is_empty() && config.layers.is_none();
    match () {
        // A setting that was made for a small model, or only for it, may not suit another one.
        () if ["learning_rate", "init", "activation"].iter().any(|field| args.gives(field)) => "--seeds 5",
        () if is_plain && has_rows => "--layers cnn",
        () if is_plain => "--hidden 64",
        () => "--seeds 5",
    }
}
