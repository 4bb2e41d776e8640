import ControlAPI
import EventStore
import Foundation
import HTTPServer
import Projections

/// Who calls, and what he may do.
struct Access {
    let controller: Controller

    /// A token says who it is; without one, whoever is on this machine may do everything, if so configured.
    func check(_ exchange: HTTPExchange) -> Result<(actor: String, role: AccessRole), Problem> {
        guard let header = exchange.header("authorization") else {
            if exchange.isLoopback, controller.options.trustsLoopback { return .success(("local", .admin)) }
            return .failure(Problem("no-token", status: 401, title: "A token is needed", detail: "Send authorization: Bearer TOKEN."))
        }
        guard header.lowercased().hasPrefix("bearer ") else {
            return .failure(
                Problem(
                    "bad-token", status: 401, title: "The token is not valid", detail: "expected authorization: Bearer TOKEN, found another"
                ))
        }
        let token = header.dropFirst("bearer ".count).trimmingCharacters(in: .whitespaces)
        switch controller.journal.models.tokens.check(hash: Self.hash(token), now: controller.journal.now) {
        case .failure(let problem):
            return .failure(Problem("bad-token", status: 401, title: "The token is not valid", detail: "\(problem)"))
        case .success(let found):
            guard let role = AccessRole(rawValue: found.creation.role) else {
                return .failure(
                    Problem("bad-token", status: 403, title: "The token is not for this", detail: "It is for a proxy to join the mesh."))
            }
            return .success(("token:\(found.creation.id)", role))
        }
    }

    /// Tokens are kept as their hashes only.
    static func hash(_ token: String) -> String { EventHash(of: Data(token.utf8)).description }

    /// 256 bits of the machine's randomness, in a form that can be pasted anywhere.
    static func newToken() -> String {
        var generator = SystemRandomNumberGenerator()
        let digits = Array("abcdefghijklmnopqrstuvwxyz234567")
        return "otr_" + String((0..<52).map { _ in digits[Int.random(in: 0..<32, using: &generator)] })
    }
}
