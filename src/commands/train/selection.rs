//! Choice among the settings that suit a data set, by cross-validation.

use anyhow::Result;
use rayon::prelude::*;
use softstep::cross_validation::{FOLDS, best, errors, mean};
use softstep::data::{Examples, Targets};
use softstep::defaults::COMPARED;
use softstep::optimizer::Settings;

use super::options::Choice;
use crate::format::significant;

/// Returns the settings to train with: of several, those that cross-validation on the training examples prefers. The first
/// ones are the rule's, and only clearly better ones replace them.
pub fn select(mut choices: Vec<Choice>, examples: &Examples) -> Result<Choice> {
    // A large validation part leaves few examples.
    if choices.len() == 1 || !COMPARED.contains(&examples.len()) {
        return Ok(choices.swap_remove(0));
    }
    let runs: Vec<_> = choices.iter().flat_map(|choice| (0..FOLDS).map(move |fold| (choice, fold))).collect();
    let errors_of = |&(choice, fold): &(&Choice, usize)| pollster::block_on(errors(&choice.config, examples, fold));
    let of_folds = runs.par_iter().map(errors_of).collect::<softstep::Result<Vec<_>>>()?;
    let all: Vec<Option<Vec<f64>>> = of_folds
        .chunks_exact(FOLDS)
        .map(|folds| Some(folds.iter().cloned().collect::<Option<Vec<_>>>()?.concat()))
        .collect();
    let at = best(&all);
    let is_class = matches!(*examples.targets, Targets::Classes(_));
    let score = |of: usize| match &all[of] {
        None => "divergence".into(),
        Some(errors) => significant(if is_class { mean(errors) } else { 1.0 - mean(errors) }, 3).replace('-', "−"),
    };
    let others: Vec<String> = (0..choices.len())
        .filter(|&other| other != at)
        .map(|other| {
            let decay = Settings::from(choices[other].config.optimizer).weight_decay;
            format!("{} with weight decay {decay}", score(other))
        })
        .collect();
    let verdict = if at == 0 { "finds nothing clearly better" } else { "prefers that" };
    let measure = if is_class { "Brier score" } else { "R²" };
    let (this, others) = (score(at), others.join(", "));
    let compared = format!("{FOLDS}-fold cross-validation {verdict}: {measure} {this} ({others})");
    let Choice { config, chosen } = choices.swap_remove(at);
    Ok(Choice { config, chosen: chosen.map(|chosen| format!("{chosen}; {compared}")) })
}
