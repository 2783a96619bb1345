use super::*;

#[test]
fn a_log_gives_causes_and_failures() {
    let done = read_log("zza zzb\nzzb -\n").expect("a log");
    assert_eq!(done.get(&Nonce("zza".to_owned())), Some(&Nonce("zzb".to_owned())));
    assert!(read_log("! zza it broke\n").is_err());
}
