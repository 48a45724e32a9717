use softstep::gpu::kernels::{add_sum, clear_sum, keep_sum};

use super::*;

#[test]
fn sums_are_cleared_kept_and_added_to_the_bit() {
    let mut bench = Bench::new();
    // The last is more than all workgroups take in one round.
    for [rows, columns] in [[1, 1], [3, 5], [65, 10], [723, 731]] {
        let (first, second) = (bench.values(rows * columns, 1.0), bench.values(rows * columns, 1e-3));
        let (sum, kept) = (bench.matrix(rows, columns, &first), bench.matrix(rows, columns, &vec![7.0; first.len()]));
        let name = format!("{rows}x{columns}");
        bench.run(&keep_sum(&bench.gpu, &bench.steps, &sum, &kept), batch(1));
        assert_eq!(bench.read(&kept), first, "{name}");
        sum.write(&bench.gpu, &second);
        bench.run(&add_sum(&bench.gpu, &bench.steps, &sum, &kept), batch(1));
        let expected: Vec<f32> = first.iter().zip(&second).map(|(first, second)| first + second).collect();
        assert_eq!(bench.read(&sum), expected, "{name}");
        assert_eq!(bench.read(&kept), first, "{name}");
        bench.run(&clear_sum(&bench.gpu, &bench.steps, &sum), batch(1));
        assert!(bench.read_padded(&sum).iter().all(|&value| value == 0.0), "{name}");
    }
}
