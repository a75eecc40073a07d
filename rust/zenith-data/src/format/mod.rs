//! The formats: each opens through `Storage`, then only says which ranges it needs and decodes the bytes it is brought.

pub mod tokens;
