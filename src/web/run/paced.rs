//! A backend that takes steps only as far as a page allows.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::backend::{AnyBackend, AnySet, Backend, DeviceInfo, Evaluation, Inference, Step};
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::optimizer::TrainingState;

/// A backend that the training loop and the calls of a page share, and what both know of the steps.
pub(super) struct Shared {
    /// `None` while it works.
    backend: RefCell<Option<AnyBackend>>,
    /// Steps that the loop may still take.
    allowed: Cell<usize>,
    /// True if the loop waits for the page to allow steps.
    waits: Cell<bool>,
    steps: Cell<usize>,
    epoch: Cell<usize>,
    /// Number of changes of the parameters.
    version: Cell<usize>,
    /// Losses that the page has not seen.
    losses: RefCell<Vec<f32>>,
    /// Losses that arrived for the page before the loop asked for them.
    early: RefCell<Vec<f32>>,
}

/// Error of a call while another one uses the backend.
pub(super) fn busy() -> Error {
    Error::Invalid("the model is at work: call again when it has answered".into())
}

impl Shared {
    pub fn new(backend: AnyBackend) -> Self {
        Self {
            backend: RefCell::new(Some(backend)),
            allowed: Cell::new(0),
            waits: Cell::new(false),
            steps: Cell::new(0),
            epoch: Cell::new(1),
            version: Cell::new(0),
            losses: RefCell::default(),
            early: RefCell::default(),
        }
    }

    /// Lets the loop take this many steps.
    pub fn allow(&self, steps: usize) {
        self.allowed.set(steps);
        self.waits.set(false);
    }

    /// Returns true if the loop has taken every step that it may.
    pub fn waits_for_steps(&self) -> bool {
        self.waits.get()
    }

    /// Number of steps taken.
    pub fn steps(&self) -> usize {
        self.steps.get()
    }

    /// The epoch, from 1.
    pub fn epoch(&self) -> usize {
        self.epoch.get()
    }

    /// Number of changes of the parameters so far.
    pub fn version(&self) -> usize {
        self.version.get()
    }

    /// Notes that the parameters changed.
    pub fn changed(&self) {
        self.version.set(self.version.get() + 1);
    }

    /// Takes the losses that the page has not seen.
    pub fn take_losses(&self) -> Vec<f32> {
        self.losses.take()
    }

    /// Uses the backend, which nobody else may do meanwhile.
    pub async fn with<T>(&self, work: impl AsyncFnOnce(&mut AnyBackend) -> Result<T>) -> Result<T> {
        let mut backend = self.backend.take().ok_or_else(busy)?;
        let done = work(&mut backend).await;
        *self.backend.borrow_mut() = Some(backend);
        done
    }

    /// Waits for the losses of every step so far.
    pub async fn flush(&self) -> Result<()> {
        let mut arrived = Vec::new();
        self.with(async |backend| backend.flush(&mut arrived).await).await?;
        self.losses.borrow_mut().extend(&arrived);
        self.early.borrow_mut().extend(arrived);
        Ok(())
    }

    /// Hands losses that arrived to the page, and with the early ones to the loop.
    fn deliver(&self, arrived: &[f32], losses: &mut Vec<f32>) {
        self.losses.borrow_mut().extend(arrived);
        losses.extend(self.early.take());
        losses.extend(arrived);
    }
}

/// The backend of a training loop.
pub(super) struct Paced {
    shared: Rc<Shared>,
    info: DeviceInfo,
}

impl Paced {
    pub fn new(shared: Rc<Shared>, info: DeviceInfo) -> Self {
        Self { shared, info }
    }
}

impl Inference for Paced {
    type Set = AnySet;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn upload(&mut self, examples: &Examples) -> Result<AnySet> {
        self.shared.backend.borrow_mut().as_mut().ok_or_else(busy)?.upload(examples)
    }

    async fn evaluate(&mut self, set: &AnySet) -> Result<Evaluation> {
        self.shared.with(async |backend| backend.evaluate(set).await).await
    }

    async fn probabilities(&mut self, set: &AnySet) -> Result<Vec<f32>> {
        self.shared.with(async |backend| backend.probabilities(set).await).await
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        self.shared.with(async |backend| backend.parameters().await).await
    }
}

impl Backend for Paced {
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        self.shared.backend.borrow_mut().as_mut().ok_or_else(busy)?.begin_epoch(order)
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        let shared = &self.shared;
        poll_fn(|_| match shared.allowed.get().checked_sub(1) {
            Some(left) => {
                shared.allowed.set(left);
                Poll::Ready(())
            }
            None => {
                shared.waits.set(true);
                Poll::Pending
            }
        })
        .await;
        if step.first == 0 && shared.steps.get() > 0 {
            shared.epoch.set(shared.epoch.get() + 1);
        }
        shared.steps.set(shared.steps.get() + 1);
        shared.changed();
        let mut arrived = Vec::new();
        let taken = shared.with(async |backend| backend.step(step, &mut arrived).await).await;
        shared.deliver(&arrived, losses);
        taken
    }

    async fn flush(&mut self, losses: &mut Vec<f32>) -> Result<()> {
        let mut arrived = Vec::new();
        let flushed = self.shared.with(async |backend| backend.flush(&mut arrived).await).await;
        self.shared.deliver(&arrived, losses);
        flushed
    }

    async fn state(&mut self) -> Result<TrainingState> {
        self.shared.with(async |backend| backend.state().await).await
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        self.shared.changed();
        self.shared.backend.borrow_mut().as_mut().ok_or_else(busy)?.restore(state)
    }
}
