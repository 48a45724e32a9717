//! Choice among the settings that suit a data set, by cross-validation.

use anyhow::Result;
use rayon::prelude::*;
use softstep::cross_validation::{FOLDS, errors};
use softstep::data::{Examples, Targets};
use softstep::defaults::COMPARED;
use softstep::optimizer::Settings;

use super::options::Choice;
use crate::format::significant;
use crate::spread::Spread;

/// Number of standard errors by which other settings have to be better than the first.
const MARGIN: f64 = 1.5;

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

/// Returns the index of the settings to train with, given the [`errors`] of each on every example, `None` for settings that
/// diverge: the first ones, unless the errors of others are smaller, on average, by more than one and a half standard errors of
/// the difference. Of several such settings those with the smallest mean.
fn best(errors: &[Option<Vec<f64>>]) -> usize {
    let is_better = |other: &[f64]| match &errors[0] {
        Some(first) => {
            let gains = Spread::of(first.iter().zip(other).map(|(first, other)| first - other));
            gains.is_some_and(|gains| gains.mean > MARGIN * gains.sd.unwrap_or(0.0) / (gains.runs as f64).sqrt())
        }
        None => true,
    };
    let others = (1..errors.len()).filter_map(|at| Some((at, errors[at].as_deref()?)));
    let better = others.filter(|(_, other)| is_better(other));
    better.min_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b))).map_or(0, |(at, _)| at)
}

fn mean(errors: &[f64]) -> f64 {
    errors.iter().sum::<f64>() / errors.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_are_clearly_better_than_the_first_are_preferred() {
        let first = || Some(vec![0.5, 0.4, 0.3, 0.4]);
        let worse = || Some(vec![0.6, 0.5, 0.4, 0.4]);
        // Smaller by 0.025, with a standard error of 0.025.
        let perhaps = || Some(vec![0.4, 0.4, 0.3, 0.4]);
        // Smaller by 0.1, with a standard error of 0.04.
        let clearly = || Some(vec![0.3, 0.3, 0.2, 0.4]);
        let most = || Some(vec![0.2, 0.2, 0.2, 0.2]);
        assert_eq!(best(&[first()]), 0);
        assert_eq!(best(&[first(), first(), worse(), perhaps(), None]), 0);
        assert_eq!(best(&[first(), worse(), clearly(), perhaps()]), 2);
        assert_eq!(best(&[first(), clearly(), most(), perhaps()]), 2);
        assert_eq!(best(&[None, worse(), first()]), 2);
        assert_eq!(best(&[None, None]), 0);
    }
}
