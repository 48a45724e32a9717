use super::*;

/// Batch, inputs and outputs where tiles of 4, 8, 16, 32 and 64 end early, exactly or late, and narrow ones.
const SHAPES: [[usize; 3]; 13] = [
    [1, 1, 2],
    [2, 3, 1],
    [3, 4, 5],
    [5, 7, 10],
    [27, 26, 12],
    [31, 33, 31],
    [32, 32, 32],
    [33, 31, 33],
    [63, 65, 16],
    [64, 64, 64],
    [65, 63, 17],
    [7, 784, 10],
    [130, 129, 67],
];

/// The same, and some at random.
pub fn shapes(bench: &mut Bench) -> Vec<[usize; 3]> {
    let mut shapes = SHAPES.to_vec();
    for limit in [15, 40, 70, 70] {
        let random = bench.below(3, limit);
        shapes.push([0, 1, 2].map(|i| 1 + random[i] as usize));
    }
    shapes
}

#[test]
fn the_adapter_offers_a_plain_matmul_and_chooses_one_it_can_run() {
    let gpu = Bench::new().gpu;
    assert!(gpu.matmul_choices().contains(&Matmul::Plain));
    assert!(gpu.matmul_choices().contains(&gpu.matmul()));
    for matmul in Matmul::ALL {
        assert_eq!(gpu.clone().with_matmul(matmul).is_ok(), gpu.matmul_choices().contains(&matmul));
    }
}
