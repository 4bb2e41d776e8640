/// `GET /openapi.json`: what the API offers, for machines. The messages' fields are those of the module `ControlAPI`.
enum OpenAPI {
    private struct Operation {
        var method: String
        var path: String
        var summary: String
        var role: String
        var query: [String] = []
        var body: String?
        var answer: String
    }

    private static let operations: [Operation] = [
        Operation(method: "get", path: "/v1/status", summary: "The mesh on one page", role: "read", answer: "MeshStatus"),
        Operation(
            method: "get", path: "/v1/resources", summary: "Resources, now or at a revision or time", role: "read",
            query: ["kind", "namespace", "name", "revision", "time"], answer: "ResourceList"),
        Operation(
            method: "get", path: "/v1/history", summary: "Revisions, newest first", role: "read", query: ["limit"], answer: "[HistoryItem]"),
        Operation(
            method: "get", path: "/v1/diff", summary: "What changed between two revisions", role: "read", query: ["from", "to"],
            answer: "[ResourceDifference]"),
        Operation(
            method: "post", path: "/v1/diff", summary: "What applying files would change", role: "read", body: "ApplyRequest",
            answer: "[ResourceDifference]"),
        Operation(
            method: "get", path: "/v1/events", summary: "Events, one JSON object a line", role: "read",
            query: ["after", "limit", "follow"],
            answer: "EventItem"),
        Operation(method: "get", path: "/v1/nodes", summary: "The proxies", role: "read", answer: "[NodeItem]"),
        Operation(method: "get", path: "/v1/outliers", summary: "Ejected endpoints", role: "read", answer: "[OutlierItem]"),
        Operation(
            method: "get", path: "/v1/breakers", summary: "Breakers: what they do, and what operators have forced them to", role: "read",
            query: ["node"], answer: "[BreakerItem]"),
        Operation(
            method: "post", path: "/v1/breakers/force", summary: "Takes breakers of a node's proxies in hand", role: "write",
            body: "BreakerForceRequest", answer: "BreakerChange"),
        Operation(
            method: "post", path: "/v1/breakers/release", summary: "Lets them decide for themselves again", role: "write",
            body: "BreakerReleaseRequest", answer: "BreakerChange"),
        Operation(
            method: "get", path: "/v1/services", summary: "Rates and latencies of services", role: "read", query: ["window"],
            answer: "[ServiceItem]"),
        Operation(
            method: "get", path: "/v1/compiled", summary: "What a node's proxy is to run", role: "read",
            query: ["node", "gateway", "instance"],
            answer: "CompiledText"),
        Operation(
            method: "post", path: "/v1/explain", summary: "Which way a request would take", role: "read", body: "ExplainRequest",
            answer: "Explanation"),
        Operation(method: "get", path: "/v1/rollouts", summary: "Rollouts, newest first", role: "read", answer: "[RolloutItem]"),
        Operation(method: "get", path: "/v1/rollouts/{id}", summary: "One rollout", role: "read", answer: "RolloutItem"),
        Operation(
            method: "post", path: "/v1/rollouts/{id}/stop", summary: "Stops a rollout and takes it back", role: "write",
            answer: "RolloutItem"),
        Operation(
            method: "post", path: "/v1/apply", summary: "Creates and changes resources", role: "write", body: "ApplyRequest",
            answer: "ChangeResult"),
        Operation(
            method: "post", path: "/v1/delete", summary: "Deletes resources", role: "write", body: "DeleteRequest", answer: "ChangeResult"),
        Operation(
            method: "post", path: "/v1/rollback", summary: "Goes back to a revision", role: "write", body: "RollbackRequest",
            answer: "ChangeResult"),
        Operation(method: "get", path: "/v1/tokens", summary: "Tokens, without their secrets", role: "admin", answer: "[TokenItem]"),
        Operation(
            method: "post", path: "/v1/tokens", summary: "Makes a token", role: "admin", body: "TokenRequest", answer: "TokenCreated"),
        Operation(method: "delete", path: "/v1/tokens/{id}", summary: "Revokes a token", role: "admin", answer: "TokenItem"),
        Operation(
            method: "get", path: "/v1/authority", summary: "Who signs the certificates of the mesh", role: "read", answer: "AuthorityStatus"
        ),
        Operation(
            method: "post", path: "/v1/authority/rotate", summary: "Another root signs from now on", role: "admin",
            answer: "AuthorityStatus"),
        Operation(
            method: "post", path: "/v1/join", summary: "Signs a proxy's certificate", role: "of a join token, or the certificate to renew",
            body: "JoinRequest", answer: "JoinReply"),
    ]

    static let document: String = {
        let paths = Dictionary(grouping: operations, by: \.path).sorted { $0.key < $1.key }.map { path, operations in
            "\(quoted(path)):{\(operations.map(written).joined(separator: ","))}"
        }
        return """
            {"openapi":"3.1.0","info":{"title":"outriggerd","version":"\(MeshQueries.version)"},\
            "components":{"securitySchemes":{"token":{"type":"http","scheme":"bearer"}}},"security":[{"token":[]}],\
            "paths":{\(paths.joined(separator: ","))}}

            """
    }()

    private static func written(_ operation: Operation) -> String {
        var parameters = operation.query.map { "{\"name\":\(quoted($0)),\"in\":\"query\",\"schema\":{\"type\":\"string\"}}" }
        if operation.path.contains("{id}") {
            parameters.append("{\"name\":\"id\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"}}")
        }
        var parts = [
            "\"summary\":\(quoted(operation.summary))", "\"description\":\(quoted("Needs the role \(operation.role)."))",
            "\"parameters\":[\(parameters.joined(separator: ","))]",
        ]
        if let body = operation.body {
            parts.append(
                "\"requestBody\":{\"content\":{\"application/json\":{\"schema\":{\"title\":\(quoted(body)),\"type\":\"object\"}}}}")
        }
        parts.append(
            "\"responses\":{\"200\":{\"description\":\(quoted(operation.answer))},"
                + "\"default\":{\"description\":\"Problem (RFC 9457)\",\"content\":{\"application/problem+json\":{}}}}")
        return "\(quoted(operation.method)):{\(parts.joined(separator: ","))}"
    }

    private static func quoted(_ text: String) -> String { "\"\(text)\"" }
}
