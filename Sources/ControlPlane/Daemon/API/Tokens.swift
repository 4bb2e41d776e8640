import ControlAPI
import EventStore
import Projections

/// Tokens: made, listed and revoked. Only their hashes are kept.
struct Tokens {
    private let controller: Controller

    init(_ controller: Controller) {
        self.controller = controller
    }

    private static let longest: Double = 10 * 365 * 86_400

    func create(_ asked: TokenRequest, _ request: APIRequest) {
        let seconds = asked.secondsToLive ?? (asked.purpose == .join ? 3600 : 90 * 86_400)
        func bad(_ detail: String) {
            request.refuse(Problem("bad-body", status: 400, title: "There is no such token", detail: detail))
        }
        guard seconds > 0, seconds <= Self.longest else {
            return bad("secondsToLive: expected 1 through \(Int(Self.longest)), found \(seconds)")
        }
        var node: ObjectKey?
        let role: String
        switch asked.purpose {
        case .api:
            guard let asked = asked.role else { return bad("role: expected read, write or admin, found nothing") }
            role = asked.rawValue
        case .join:
            guard let subject = asked.subject, let key = ObjectKey(subject, defaultNamespace: "default"), key.joins else {
                return bad(
                    "subject: expected a VirtualNode or VirtualGateway, found \(asked.subject.map { "\($0.kind)/\($0.name)" } ?? "nothing")"
                )
            }
            node = key
            role = "join"
        }
        let token = Access.newToken()
        let id = String(Access.hash(token).prefix(12))
        let expiry = controller.journal.now.advanced(bySeconds: seconds)
        let creation = TokenCreation(id: id, hash: Access.hash(token), role: role, node: node, expiry: expiry)
        controller.journal.record([.tokenCreated(creation)], actor: request.actor) { result in
            switch result {
            case .success: request.answer(TokenCreated(id: id, token: token, expires: expiry.text), status: 201)
            case .failure(let error): request.refuse(.internal("\(error)"))
            }
        }
    }

    func list() -> [TokenItem] {
        let now = controller.journal.now
        return controller.journal.models.tokens.tokens.values.sorted { $0.created < $1.created }.map { token in
            let isJoin = token.creation.role == "join"
            let isExpired = token.creation.expiry.map { $0 <= now } ?? false
            let state = token.revoked != nil ? "revoked" : isJoin && token.used != nil ? "used" : isExpired ? "expired" : "valid"
            return TokenItem(
                id: token.creation.id, purpose: isJoin ? .join : .api, role: AccessRole(rawValue: token.creation.role),
                subject: token.creation.node.map { ResourceName($0) }, created: token.created.text,
                expires: token.creation.expiry?.text ?? "", state: state)
        }
    }

    func revoke(_ id: String, _ request: APIRequest) {
        guard let token = controller.journal.models.tokens.tokens[id] else {
            return request.refuse(.notFound("There is no token \"\(id)\"."))
        }
        func reply() { request.answer(list().first { $0.id == id }) }
        if token.revoked != nil { return reply() }
        controller.journal.record([.tokenRevoked(TokenChange(id: id))], actor: request.actor) { result in
            if case .failure(let error) = result { return request.refuse(.internal("\(error)")) }
            reply()
        }
    }
}

extension ObjectKey {
    /// Whether proxies are of it.
    var joins: Bool { kind == "VirtualNode" || kind == "VirtualGateway" }
}
