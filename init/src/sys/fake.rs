//! A kernel that only writes down what it is asked for.
