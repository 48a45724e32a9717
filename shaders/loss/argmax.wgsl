// The class with the largest output, the lowest if several tie; for evaluate.wgsl.
//
// Provides: class_of_row.
// Needs: OUTPUTS, OUTPUT_BLOCKS, outputs.
fn class_of_row(row: u32) -> u32 {
    var best = 0u;
    var largest = outputs[row * OUTPUT_BLOCKS].x;
    for (var candidate = 1u; candidate < OUTPUTS; candidate++) {
        let logit = outputs[row * OUTPUT_BLOCKS + candidate / 4u][candidate % 4u];
        if logit > largest {
            largest = logit;
            best = candidate;
        }
    }
    return best;
}
