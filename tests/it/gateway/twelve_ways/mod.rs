//! The twelve ways in which gateways that promise a cap are known to fail, each as a test with the way
//! for its name: what must not happen here.

mod books;
mod edges;
mod money;
mod windows;
