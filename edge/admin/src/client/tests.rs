//! What the operator is told when nobody, or nobody sensible, answers.

use super::*;

#[test]
fn an_address_with_brackets_and_colons_is_one_path_segment() {
    let id = InstanceId::new("shop", "[::1]:9001");
    assert_eq!(instance_path(&id, "drain"), "/v1/services/shop/instances/%5B%3A%3A1%5D%3A9001/drain");
}

#[tokio::test]
async fn nothing_at_the_path_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let error = Client::connect(&path).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "everup does not run here (no answer at {}): start it with `everup run FILE`, \
             or name it with --admin / --config",
            path.display()
        )
    );
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_any_more_is_told_the_same_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path).await, Err(ClientError::NotRunning { .. })));
}

#[tokio::test]
async fn a_server_that_breaks_off_is_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let client = Client::connect(&path).await.unwrap();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
    let for_ever = client.drain(&InstanceId::new("shop", "shop-1"), Some(Duration::MAX)).await;
    assert!(matches!(for_ever, Err(ClientError::Broken { .. })));
}
