//! What this kernel and these privileges allow, for `spoor doctor`: the running system in, [`Finding`]s out.
