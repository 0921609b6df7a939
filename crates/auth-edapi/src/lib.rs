//! Tower layer that decides who may enter, by EDAPI or static tokens.
