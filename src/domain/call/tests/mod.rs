mod bodies;
mod bounds;
mod fields;
mod headers;
