//! Every program that the installer calls is made to fail, once for each of its calls: then all is as it was before.
