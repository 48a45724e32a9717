//! The settings of a sweep: their lists and ranges, and the runs that a grid or a random search makes of them.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::optimizer::Optimizer;

use crate::commands::train::options::TrainArgs;
use crate::options::{Problem, in_one_form};

/// Settings that may have several values, by the names of their fields in [`TrainArgs`].
const SWEPT: [&str; 20] = [
    "hidden",
    "activation",
    "layers",
    "epochs",
    "batch_size",
    "learning_rate",
    "optimizer",
    "momentum",
    "weight_decay",
    "beta1",
    "beta2",
    "epsilon",
    "clip_norm",
    "schedule",
    "warmup",
    "augment",
    "seed",
    "label_smoothing",
    "class_weights",
    "patience",
];

/// Settings that all runs of a sweep share. Of different losses or validation parts the lowest loss says nothing.
const SHARED: [&str; 5] = ["nesterov", "loss", "validation", "keep", "init"];

/// Settings that are whole numbers.
const WHOLE: [&str; 5] = ["hidden", "epochs", "batch_size", "seed", "patience"];

/// Settings whose ranges are logarithmic unless they say otherwise: their factors matter, not their differences.
const LOGARITHMIC: [&str; 6] = ["learning_rate", "weight_decay", "epsilon", "clip_norm", "batch_size", "hidden"];

/// Settings that have no range.
const NO_RANGE: [&str; 7] = ["activation", "layers", "optimizer", "schedule", "augment", "class_weights", "nesterov"];

/// Points of a range in a grid.
const POINTS: usize = 5;

/// Most runs in a row that a random search had already, before it ends.
const PATIENCE: usize = 10_000;

/// Text of a value that leaves the option away.
pub const NONE: &str = "none";

/// The settings on the command line of a sweep, as they were written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Field, flag and text of each.
    given: Vec<(String, String, String)>,
    /// Arguments of the settings that all runs share.
    shared: Vec<String>,
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let train = TrainArgs::augment_args(Command::new("train"));
        let mut command = command;
        for argument in train.get_arguments() {
            let id = argument.get_id().as_str();
            if SHARED.contains(&id) {
                let shared = argument.clone().help_heading("Settings of all runs");
                command = command.arg(if id == "validation" { shared.default_value("0.2") } else { shared });
            } else if SWEPT.contains(&id) {
                let plain = argument.clone().value_parser(clap::value_parser!(String)).value_delimiter(None::<char>);
                let name = if NO_RANGE.contains(&id) { "A/B/…" } else { "A/B/…|LOW..HIGH" };
                let plain = plain.action(ArgAction::Set).num_args(1);
                let plain = plain.default_value(None::<&'static str>).value_name(name).help_heading("Settings to try");
                command = command.arg(plain.hide_possible_values(true));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let train = TrainArgs::augment_args(Command::new("train"));
        let mut settings = Self::default();
        for argument in train.get_arguments().filter(|argument| SWEPT.contains(&argument.get_id().as_str())) {
            let id = argument.get_id().as_str();
            if let (Some(text), Some(long)) = (matches.get_one::<String>(id), argument.get_long()) {
                settings.given.push((id.into(), format!("--{long}"), text.clone()));
            }
        }
        let shared = train.get_arguments().filter(|argument| SHARED.contains(&argument.get_id().as_str()));
        let shared = Command::new("train").args(shared.cloned());
        settings.shared = in_one_form(&shared, matches).into_iter().map(|(_, argument)| argument).collect();
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A setting with the values to try.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Name of its field.
    pub field: String,
    /// Flag.
    pub flag: String,
    /// List or range as it was written.
    pub text: String,
    /// Values.
    values: Values,
}

/// Values of a setting.
#[derive(Clone, Debug, PartialEq)]
enum Values {
    List(Vec<String>),
    Range { low: f64, high: f64, logarithmic: bool, whole: bool, points: usize },
}

impl Setting {
    /// Parses `a/b/c`, or `low..high` with `:log` or `:linear` and the number of points in a grid behind it.
    fn parse(field: &str, flag: &str, text: &str) -> Result<Self, String> {
        let values = match text.split_once("..") {
            Some((low, rest)) if !text.contains('/') => Self::range(field, flag, text, low, rest)?,
            _ => {
                let list: Vec<String> = text.split('/').map(|value| value.trim().to_owned()).collect();
                let mut distinct = BTreeSet::new();
                if let Some(twice) = list.iter().find(|value| !distinct.insert(*value)) {
                    return Err(format!("{flag} {text}: the value {twice:?} is there twice"));
                }
                if list.iter().any(String::is_empty) {
                    return Err(format!("{flag} {text}: a value is empty; `none` leaves the option away"));
                }
                Values::List(list)
            }
        };
        Ok(Self { field: field.into(), flag: flag.into(), text: text.into(), values })
    }

    fn range(field: &str, flag: &str, text: &str, low: &str, rest: &str) -> Result<Values, String> {
        if NO_RANGE.contains(&field) {
            return Err(format!("{flag} {text}: it has no range, but a list, as in a/b/c"));
        }
        let mut parts = rest.split(':');
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        let ends = number(low).zip(parts.next().and_then(number));
        let (low, high) =
            ends.ok_or_else(|| format!("{flag} {text}: a range is two numbers, as in 0.01..0.3 or 0.01..0.3:linear"))?;
        let whole = WHOLE.contains(&field);
        let (mut logarithmic, mut points) = (LOGARITHMIC.contains(&field) && low > 0.0, POINTS);
        for part in parts {
            match (part, part.parse()) {
                ("log", _) => logarithmic = true,
                ("linear", _) => logarithmic = false,
                (_, Ok(number)) if number > 1 => points = number,
                _ => {
                    return Err(format!(
                        "{flag} {text}: behind a range stand :log, :linear or the points in a grid, 2 or more"
                    ));
                }
            }
        }
        if low >= high {
            return Err(format!("{flag} {text}: a range goes from a lower to a higher number"));
        }
        if logarithmic && low <= 0.0 {
            return Err(format!("{flag} {text}: a logarithmic range lies above 0; :linear makes it linear"));
        }
        if whole && (low < 0.0 || low.fract() != 0.0 || high.fract() != 0.0) {
            return Err(format!("{flag} {text}: its numbers are whole"));
        }
        Ok(Values::Range { low, high, logarithmic, whole, points })
    }

    /// The value at this share of the way through the values, in 0..1.
    fn at(&self, share: f64) -> String {
        match &self.values {
            Values::List(list) => list[((share * list.len() as f64) as usize).min(list.len() - 1)].clone(),
            &Values::Range { low, high, logarithmic, whole, .. } => {
                let between = |low: f64, high: f64| low + share * (high - low);
                let value = if logarithmic { between(low.ln(), high.ln()).exp() } else { between(low, high) };
                let value = if whole { value.round() } else { three_digits(value) };
                value.clamp(low, high).to_string()
            }
        }
    }

    /// The values in a grid.
    fn grid(&self) -> Vec<String> {
        match &self.values {
            Values::List(list) => list.clone(),
            Values::Range { points, .. } => {
                let mut values: Vec<String> = (0..*points).map(|at| self.at(at as f64 / (points - 1) as f64)).collect();
                values.dedup();
                values
            }
        }
    }

    /// Returns true if the setting is drawn on a logarithmic axis.
    pub fn is_logarithmic(&self) -> bool {
        match &self.values {
            Values::Range { logarithmic, .. } => *logarithmic,
            Values::List(list) => {
                let numbers: Option<Vec<f64>> = list.iter().map(|value| value.parse().ok()).collect();
                let numbers = numbers.unwrap_or_default();
                let (low, high) =
                    numbers.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &at| (low.min(at), high.max(at)));
                low > 0.0 && high / low >= 8.0
            }
        }
    }
}

fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// How the runs of a sweep are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Search {
    /// All combinations of the values, in order
    Grid,
    /// Random values
    Random,
}

/// The settings of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// Settings with several values.
    pub settings: Vec<Setting>,
    /// Arguments that all runs have.
    pub fixed: Vec<String>,
}

/// The values of one run, one for each setting.
pub type Choice = Vec<String>;

impl Space {
    /// Reads the settings.
    ///
    /// # Errors
    /// A list or range that is none, by its flag.
    pub fn new(settings: &Settings) -> Result<Self, Problem> {
        let parse = |(field, flag, text): &(String, String, String)| {
            Setting::parse(field, flag, text).map_err(|problem| (ErrorKind::ValueValidation, problem))
        };
        let all = settings.given.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let (fixed, several): (Vec<_>, Vec<_>) = all.into_iter().partition(|setting| setting.grid().len() == 1);
        let mut arguments: Vec<String> =
            fixed.iter().filter_map(|setting| argument(setting, &setting.grid()[0])).collect();
        arguments.extend(settings.shared.iter().cloned());
        Ok(Self { settings: several, fixed: arguments })
    }

    /// Number of combinations of the values in a grid.
    pub fn combinations(&self) -> usize {
        self.settings.iter().fold(1, |count: usize, setting| count.saturating_mul(setting.grid().len()))
    }

    /// Returns true if a setting has a range, which holds more values than a grid tries.
    pub fn has_range(&self) -> bool {
        self.settings.iter().any(|setting| matches!(setting.values, Values::Range { .. }))
    }

    /// The runs of a search, none twice; those of a random one depend on `seed` alone.
    pub fn choices(&self, search: Search, seed: u64) -> Box<dyn Iterator<Item = Choice> + Send + '_> {
        let mut seen = BTreeSet::new();
        let raw: Box<dyn Iterator<Item = Choice> + Send + '_> = match search {
            Search::Grid => Box::new((0..self.combinations()).map(|at| self.combination(at))),
            Search::Random => {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                Box::new(std::iter::repeat_with(move || {
                    let mut share = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                    self.settings.iter().map(|setting| setting.at(share())).collect()
                }))
            }
        };
        let mut known = 0;
        Box::new(
            raw.map(move |choice| seen.insert(self.arguments(&choice)).then_some(choice))
                .take_while(move |choice| {
                    known = if choice.is_some() { 0 } else { known + 1 };
                    known < PATIENCE
                })
                .flatten(),
        )
    }

    /// This choice with each other value of each setting in turn: what shows whether all values are sound.
    pub fn one_by_one<'a>(&'a self, choice: &'a Choice) -> impl Iterator<Item = Choice> + 'a {
        self.settings.iter().enumerate().flat_map(move |(at, setting)| {
            setting.grid().into_iter().map(move |value| {
                let mut other = choice.clone();
                other[at] = value;
                other
            })
        })
    }

    /// Combination number `at` of a grid; the last setting changes fastest.
    fn combination(&self, mut at: usize) -> Choice {
        let mut choice: Choice = self
            .settings
            .iter()
            .rev()
            .map(|setting| {
                let values = setting.grid();
                let value = values[at % values.len()].clone();
                at /= values.len();
                value
            })
            .collect();
        choice.reverse();
        choice
    }

    /// The settings' arguments of a run, and those that all runs have. Settings of another optimizer than the run's are
    /// left away; `None` if a choice has another number of values than there are settings.
    pub fn arguments(&self, choice: &Choice) -> Option<Vec<String>> {
        if choice.len() != self.settings.len() {
            return None;
        }
        let both = || self.settings.iter().zip(choice);
        let own = both().find(|(setting, _)| setting.field == "optimizer").map(|(_, value)| value.as_str());
        let fixed = self.fixed.iter().find_map(|argument| argument.strip_prefix("--optimizer="));
        let optimizer = own.or(fixed).and_then(Optimizer::from_name);
        let of_others = |field: &str| {
            optimizer.is_some_and(|optimizer| {
                let all = Optimizer::all();
                let is_known = all.iter().any(|other| other.setting_names().contains(&field));
                is_known && !optimizer.setting_names().contains(&field)
            })
        };
        let arguments = both().filter(|(setting, _)| !of_others(&setting.field));
        let arguments = arguments.filter_map(|(setting, value)| argument(setting, value));
        Some(self.fixed.iter().cloned().chain(arguments).collect())
    }
}

/// The argument of a value; `None` for the one that leaves the option away.
fn argument(setting: &Setting, value: &str) -> Option<String> {
    (value != NONE).then(|| format!("{}={value}", setting.flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(field: &str, text: &str) -> Setting {
        Setting::parse(field, &format!("--{field}"), text).unwrap()
    }

    fn space(settings: &[(&str, &str)]) -> Space {
        let settings = settings.iter().map(|(field, text)| setting(field, text)).collect();
        Space { settings, fixed: vec!["--epochs=3".into()] }
    }

    #[test]
    fn ranges_are_logarithmic_for_rates_and_say_so_for_others() {
        assert_eq!(setting("learning_rate", "0.01..1").grid(), ["0.01", "0.0316", "0.1", "0.316", "1"]);
        assert_eq!(setting("learning_rate", "0.1..0.3:linear:3").grid(), ["0.1", "0.2", "0.3"]);
        assert_eq!(setting("momentum", "0..0.9:4").grid(), ["0", "0.3", "0.6", "0.9"]);
        assert_eq!(setting("batch_size", "16..128:4").grid(), ["16", "32", "64", "128"]);
        assert_eq!(setting("epochs", "1..3").grid(), ["1", "2", "3"]);
        assert_eq!(setting("hidden", "none/64/128,64").grid(), ["none", "64", "128,64"]);
    }

    #[test]
    fn what_is_no_list_or_range_is_refused_by_its_flag() {
        for (field, text, words) in [
            ("learning_rate", "0.3..0.01", "lower to a higher"),
            ("learning_rate", "0..1:log", "above 0"),
            ("learning_rate", "a..1", "two numbers"),
            ("learning_rate", "0.1..1:cubic", ":log, :linear"),
            ("learning_rate", "0.1..1:1", "2 or more"),
            ("epochs", "1.5..4", "whole"),
            ("optimizer", "sgd..lion", "no range"),
            ("learning_rate", "0.1/0.1", "twice"),
            ("learning_rate", "0.1//0.2", "empty"),
        ] {
            let problem = Setting::parse(field, "--flag", text).unwrap_err();
            assert!(problem.starts_with("--flag") && problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn a_grid_has_every_combination_once_and_leaves_out_settings_of_other_optimizers() {
        let space = space(&[("optimizer", "sgd/adamw"), ("momentum", "0/0.9"), ("batch_size", "16/32")]);
        let runs: Vec<Vec<String>> =
            space.choices(Search::Grid, 0).map(|choice| space.arguments(&choice).unwrap()).collect();
        assert_eq!(runs.len(), 6, "{runs:?}");
        assert_eq!(runs[0], ["--epochs=3", "--optimizer=sgd", "--momentum=0", "--batch_size=16"]);
        assert_eq!(runs[5], ["--epochs=3", "--optimizer=adamw", "--batch_size=32"]);
    }

    #[test]
    fn a_random_search_depends_on_its_seed_and_tries_nothing_twice() {
        let space = space(&[("learning_rate", "0.001..1"), ("hidden", "none/8/16")]);
        let some = |seed| space.choices(Search::Random, seed).take(200).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        let distinct: BTreeSet<_> = some(1).into_iter().collect();
        assert_eq!(distinct.len(), 200);
        let rates = some(3).into_iter().filter(|choice| choice[0].parse::<f64>().unwrap() < 0.0316).count();
        assert!((70..130).contains(&rates), "half of a logarithmic range lies below the root of its ends: {rates}");
        let few = self::space(&[("hidden", "none/8/16")]);
        assert_eq!(few.choices(Search::Random, 0).count(), 3);
    }
}
