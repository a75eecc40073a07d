//! A finished batch: one slab per dense field, offsets and bytes per varying field, and where the epoch stands after it.

/// Samples that leave together, in position order. Where a process reads several shards, each has fields of its own, so that
/// each can go to another device as it is.
#[derive(Debug)]
pub struct Batch<S> {
    /// Samples in the batch, of each shard.
    pub rows: usize,
    /// One entry per field of the schema, in its order; those of the next shard after them.
    pub fields: Vec<FieldData<S>>,
    /// Global position after this batch: what a checkpoint taken now holds.
    pub position_after: u64,
}

/// The values of one field of a batch.
#[derive(Debug)]
pub enum FieldData<S> {
    /// `rows` × the field's shape, C order.
    Dense(S),
    /// Value `i` is `bytes[offsets[i]..offsets[i + 1]]`.
    Varying { offsets: Vec<u64>, bytes: Vec<u8> },
}
