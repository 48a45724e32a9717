//! The optimizers' updates, and clipping of the gradients before them.

use super::matmul::{Matrix, matmul};
use super::workers::{Arch, Workers, split};
use crate::error::Result;
use crate::model::Weights;
use crate::optimizer::{Entry as _, Optimizer, Sgd, with_optimizer};
use crate::plan::{Operation, Plan};
use crate::reference;
use crate::shards::{Courier, Cut, Sharding};

/// Cost of an update from a stored gradient for each parameter, in floating-point operations of a product.
const UPDATE_COST: usize = 10;

/// Σ x², in the same order whatever the number of threads.
#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    for chunk in values.chunks(sums.len()) {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum()
}

/// Source of a layer's gradient.
#[derive(Clone, Copy)]
pub enum Gradient<'a> {
    /// A product of these matrices.
    Product(Matrix<'a>, Matrix<'a>),
    /// [`Updater::gradients`] times `coefficient`, in rows of `width`.
    Stored { width: usize, coefficient: f32 },
}

/// The optimizer and what it remembers.
pub struct Updater {
    pub optimizer: Optimizer,
    /// Per moment and layer, shaped like its values; empty where the optimizer has fewer.
    pub moments: [Vec<Vec<f32>>; 2],
    clip_norm: Option<f32>,
    /// True if all gradients are needed before any update.
    stores: bool,
    /// The gradient of each layer, shaped like its values; empty where it goes into them straight from a product.
    gradients: Vec<Vec<f32>>,
    /// Room for the gradients of shards.
    rooms: Vec<Vec<f32>>,
    /// Takes gradients to other ranks while those of earlier layers are computed.
    courier: Option<Courier>,
    /// Steps since the start of training.
    pub updates: u64,
}

impl Updater {
    /// `is_sharded` is true where gradients are summed over shards.
    pub fn new(
        optimizer: Optimizer,
        clip_norm: Option<f32>,
        is_sharded: bool,
        plan: &Plan,
        layers: &[Weights],
    ) -> Self {
        let sizes = || layers.iter().map(|layer| layer.values.len());
        let moment = |index: usize| {
            let is_read = index < optimizer.moments();
            sizes().map(|size| vec![0.0; if is_read { size } else { 0 }]).collect()
        };
        let stores = clip_norm.is_some() || is_sharded;
        let is_stored = stores || optimizer.moments() > 0;
        let with_weights = plan.nodes.iter().filter(|node| node.weights.is_some());
        let gradients = with_weights
            .zip(sizes())
            .map(|(node, size)| vec![0.0; if is_stored || node.operation != Operation::Linear { size } else { 0 }]);
        Self {
            optimizer,
            moments: [moment(0), moment(1)],
            clip_norm,
            stores,
            gradients: gradients.collect(),
            rooms: Vec::new(),
            courier: None,
            updates: 0,
        }
    }

    /// Sends gradients to the other ranks as soon as they are complete.
    pub fn with_courier(self, sharding: &Sharding) -> Self {
        Self { courier: Courier::new(sharding), ..self }
    }

    /// Returns true if all gradients are needed before any update.
    pub fn stores(&self) -> bool {
        self.stores
    }

    /// Room for the gradient of layer `index`.
    pub fn gradient(&mut self, index: usize) -> &mut [f32] {
        &mut self.gradients[index]
    }

    /// Sums the gradient of layer `index` over a batch; `compute` gets the number of a shard, and room for its gradient.
    ///
    /// With other ranks it is the sum only after [`collect`](Self::collect).
    pub fn sum_gradient(&mut self, index: usize, cut: Cut<'_>, compute: impl FnMut(usize, &mut [f32])) -> Result<()> {
        cut.sum_own(&mut self.gradients[index], &mut self.rooms, compute);
        match &mut self.courier {
            // Nothing is computed after the first layer that its gradient could travel beside.
            Some(courier) if index > 0 => {
                courier.send(index, std::mem::take(&mut self.gradients[index]));
                Ok(())
            }
            _ => {
                self.collect()?;
                cut.sum_over_ranks(&mut self.gradients[index], &mut self.rooms[0])
            }
        }
    }

    /// Waits for the gradients that are on their way between ranks.
    pub fn collect(&mut self) -> Result<()> {
        let Self { courier, gradients, .. } = self;
        courier.as_mut().map_or(Ok(()), |courier| courier.collect(|index, gradient| gradients[index] = gradient))
    }

    /// What all gradients are multiplied with to be clipped, as
    /// [`clip_coefficient`](crate::reference::clip_coefficient); 1 without clipping, and NaN where the sum of their squares
    /// leaves f32.
    pub fn clip_coefficient(&self, arch: Arch) -> f32 {
        let Some(max_norm) = self.clip_norm else { return 1.0 };
        let sum: f64 = self.gradients.iter().map(|gradient| arch.dispatch(|| sum_of_squares(gradient))).sum();
        let norm = if sum <= f64::from(f32::MAX) { sum.sqrt() } else { f64::NAN };
        reference::clip_coefficient(norm, f64::from(max_norm)) as f32
    }

    /// Updates layer `index`.
    pub fn update(
        &mut self,
        workers: Workers,
        index: usize,
        values: &mut [f32],
        gradient: Gradient<'_>,
        learning_rate: f32,
    ) {
        let (width, operations) = match gradient {
            Gradient::Product(a, b) => (b.columns, 2 * a.columns * values.len()),
            Gradient::Stored { width, .. } => (width, UPDATE_COST * values.len()),
        };
        let blocks = workers.blocks(operations, values.len() / width);
        let split = |values| split(values, &blocks, width);
        let [first, second] = &mut self.moments;
        let (first, second) = (&mut first[index], &mut second[index]);
        let room = &mut self.gradients[index];
        // The gradient of a block of rows, from its first row on.
        let compute = |block: &mut [f32], first: usize| match gradient {
            Gradient::Product(a, b) => {
                matmul(block, width, 0.0, 1.0, a.rows(first..first + block.len() / width), b);
            }
            Gradient::Stored { coefficient, .. } => block.iter_mut().for_each(|value| *value *= coefficient),
        };
        match (self.optimizer, gradient) {
            (Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay, .. }), Gradient::Product(a, b)) => {
                // The gradient is never written down: the product goes into the values.
                workers.for_each_block(operations, width, values, |rows, block| {
                    if weight_decay != 0.0 {
                        block.iter_mut().for_each(|value| *value -= learning_rate * (weight_decay * *value));
                    }
                    matmul(block, width, 1.0, -learning_rate, a.rows(rows), b);
                });
            }
            (Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay, .. }), Gradient::Stored { coefficient, .. }) => {
                workers.for_each_block(operations, width, values, |rows, block| {
                    for (value, gradient) in block.iter_mut().zip(&room[rows.start * width..]) {
                        *value -= learning_rate * (coefficient * gradient + weight_decay * *value);
                    }
                });
            }
            (optimizer, _) => {
                let step = self.updates;
                let moments = split(first).zip(split(second));
                let parts = blocks.iter().zip(split(values)).zip(moments.zip(split(room)));
                workers.for_each(operations, parts, |((rows, values), (moments, gradient))| {
                    compute(gradient, rows.start);
                    with_optimizer!(&optimizer, entry => workers.arch.dispatch(
                        #[inline(always)]
                        || entry.update_f32(step, learning_rate, values, gradient, [moments.0, moments.1])
                    ));
                });
            }
        }
    }
}
