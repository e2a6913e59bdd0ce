//! newc archives, compressors, root images; a segment that did not change is taken from the cache.
