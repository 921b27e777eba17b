mod bounds;
mod bodies;
mod fields;
mod headers;
