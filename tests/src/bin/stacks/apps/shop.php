<?php
// Orders with PDO, behind nginx and PHP-FPM: a connection for each request.
$database = new PDO(getenv("PDO_URL"), "spoor");
$database->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$nonce = $_SERVER["HTTP_X_NONCE"];
$path = explode("/", $_SERVER["DOCUMENT_URI"]);
$look = "SELECT status FROM orders WHERE id = ? AND (nonce = ? OR customer IS NOT NULL)";
$answer = [];
$order = (int) ($path[2] ?? 0);
if ($order === 0) {
    $body = json_decode(file_get_contents("php://input"), true);
    $order = $body["order_id"];
    $statement = $database->prepare("INSERT INTO orders (id, customer, nonce) VALUES (?, ?, ?)");
    $statement->execute([$order, $body["customer"], $nonce . "-a"]);
} elseif (($path[3] ?? "") === "confirm") {
    $database->beginTransaction();
    $statement = $database->prepare($look . " FOR UPDATE");
    $statement->execute([$order, $nonce . "-a"]);
    $statement = $database->prepare("UPDATE orders SET status = 'confirmed', nonce = ? WHERE id = ?");
    $statement->execute([$nonce . "-b", $order]);
    $database->commit();
} else {
    $statement = $database->prepare($look);
    $statement->execute([$order, $nonce . "-a"]);
    $answer["status"] = $statement->fetchColumn();
}
header("Content-Type: application/json");
echo json_encode(["order_id" => $order] + $answer);
