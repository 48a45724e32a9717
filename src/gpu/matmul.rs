//! The ways to multiply matrices, and the choice between them.

/// A way to multiply matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matmul {
    /// Registers only; for any adapter.
    Plain,
    /// Tiles in workgroup memory, for hardware GPUs.
    Workgroup,
    /// Broadcasts within a subgroup of at least 8 lanes, for software adapters.
    Subgroup,
    /// The same for products of at most 16 columns, where it takes the place of [`Matmul::Subgroup`].
    Narrow,
    /// The same for convolutions and their gradients by the input, where it takes the place of [`Matmul::Subgroup`].
    Sliding,
    /// The same for gradients of convolutions by their weights.
    SlidingSums,
}

impl Matmul {
    /// Every way.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Workgroup, Self::Subgroup, Self::Narrow, Self::Sliding, Self::SlidingSums];

    /// The ways that a device supports, and the one to use there. Subgroups pay on software adapters, which run a
    /// subgroup as one vector.
    pub(super) fn on_device(is_software: bool, has_subgroups: bool) -> (Vec<Self>, Self) {
        let mut choices = vec![Self::Plain, Self::Workgroup];
        if has_subgroups {
            choices.push(Self::Subgroup);
        }
        let choice = match (is_software, has_subgroups) {
            (true, true) => Self::Subgroup,
            (true, false) => Self::Plain,
            (false, _) => Self::Workgroup,
        };
        (choices, choice)
    }
}
