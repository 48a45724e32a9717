//! A model in the form that every export writes.

use serde_json::json;
use softstep::data::{Preprocessing, Scale};
use softstep::loss::Link;
use softstep::plan::Plan;

use crate::run::model::{Input, Model};

/// A model to export, with what is known of it.
pub struct Export<'a> {
    pub model: &'a Model,
    pub plan: Plan,
    pub input: Input<'a>,
    pub output: Output,
    /// Accuracy, R² or the like on the test part, in words.
    pub accuracy: Option<String>,
}

/// Meaning of a model's outputs.
pub enum Output {
    /// Logits of these classes.
    Probabilities(Vec<String>),
    /// One logit, of the second of two classes.
    Binary(Vec<String>),
    /// Estimates of the one-hot label, trained by mean squared error.
    Scores(Vec<String>),
    /// Real values, each standardised if there are scales.
    Values { count: usize, scales: Vec<Scale>, target: Option<String> },
}

/// Says in which units real values are.
pub fn own_units(count: usize) -> &'static str {
    if count == 1 { "its own unit" } else { "their own units" }
}

impl<'a> Export<'a> {
    pub fn new(model: &'a Model, accuracy: Option<String>) -> Self {
        let Model { parameters, loss, preprocessing, .. } = model;
        let outputs = parameters.outputs();
        let preprocessing = preprocessing.as_ref();
        let output = if preprocessing.is_none_or(Preprocessing::has_classes) {
            let count = if loss.link() == Link::Sigmoid { 2 } else { outputs };
            let names = preprocessing.and_then(Preprocessing::class_names);
            let names = names.map_or_else(|| (0..count).map(|class| class.to_string()).collect(), <[String]>::to_vec);
            match loss.link() {
                Link::Softmax => Output::Probabilities(names),
                Link::Sigmoid => Output::Binary(names),
                Link::Identity => Output::Scores(names),
            }
        } else {
            let scales = preprocessing.map_or(&[][..], Preprocessing::target_scales).to_vec();
            let target = preprocessing.and_then(Preprocessing::target).map(String::from);
            Output::Values { count: outputs, scales, target }
        };
        Self { model, plan: Plan::new(&parameters.architecture), input: model.input(), output, accuracy }
    }

    /// Names of the classes, if the model has any.
    pub fn classes(&self) -> Option<&[String]> {
        match &self.output {
            Output::Probabilities(classes) | Output::Binary(classes) | Output::Scores(classes) => Some(classes),
            Output::Values { .. } => None,
        }
    }

    /// A line that says what the model is.
    pub fn title(&self) -> String {
        let what = if self.classes().is_some() { "A classifier" } else { "A regression" };
        format!("{what} that softstep {} exported, trained on {}.", env!("CARGO_PKG_VERSION"), self.model.data)
    }

    /// Facts about the model for programs, by name.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("producer", format!("softstep {}", env!("CARGO_PKG_VERSION"))),
            ("data", self.model.data.clone()),
            ("loss", self.model.loss.name().to_string()),
            ("sha256", self.model.parameters.sha256()),
        ];
        facts.extend(self.classes().map(|classes| ("classes", json!(classes).to_string())));
        facts.extend(self.accuracy.clone().map(|accuracy| ("accuracy", accuracy)));
        facts
    }
}
