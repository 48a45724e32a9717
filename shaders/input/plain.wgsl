// Examples without augmentation.
//
// Provides: Source, source_of_row, value_of.
// Needs: example_of_row, value_of_example.
struct Source {
    example: u32,
}

fn source_of_row(row: u32) -> Source {
    return Source(example_of_row(row));
}

fn value_of(source: Source, element: u32) -> f32 {
    return value_of_example(source.example, element);
}
