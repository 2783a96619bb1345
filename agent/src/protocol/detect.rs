//! First bytes of both directions in, the protocol they speak out.
