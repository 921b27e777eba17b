//! The doctor on the real binary and the emulator: what is sound passes, what is missing is named with the
//! exact statement, and nothing is ever changed.

mod dangers;
mod missing;
mod place;
mod rulings;
mod simulator;
mod sound;
