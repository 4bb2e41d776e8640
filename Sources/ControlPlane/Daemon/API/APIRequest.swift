import ControlAPI
import EventStore
import Foundation
import HTTPServer
import Projections

/// One call of the REST API: who calls, what for, and how the answer goes out.
struct APIRequest {
    let exchange: HTTPExchange
    /// Behind `/v1/`.
    let path: [String]
    let query: [String: String]
    /// `user:alice` where a token or a certificate says so.
    let actor: String
    let role: AccessRole

    static let maxBodyBytes = 48 << 20

    subscript(name: String) -> String? { query[name].flatMap { $0.isEmpty ? nil : $0 } }

    func number(_ name: String) -> Result<Int?, Problem> {
        guard let text = self[name] else { return .success(nil) }
        guard let number = Int(text), number >= 0 else { return .failure(.badQuery(name, expected: "a number", found: text)) }
        return .success(number)
    }

    var isFollowing: Bool { ["true", "1", ""].contains(query["follow"] ?? "false") }

    // MARK: Answers

    func answer(_ value: some Encodable, status: Int = 200) {
        guard let body = try? Self.encoder.encode(value) else { return exchange.respond(problem: 500, "The answer could not be written.") }
        exchange.respond(status: status, headers: [("content-type", "application/json")], body: Array(body) + [UInt8(ascii: "\n")])
    }

    func answer<Value: Encodable>(_ result: Result<Value, Problem>) {
        switch result {
        case .success(let value): answer(value)
        case .failure(let problem): refuse(problem)
        }
    }

    func refuse(_ problem: Problem) {
        let body = (try? Self.encoder.encode(problem)) ?? Data()
        var headers = [("content-type", "application/problem+json")]
        if problem.status == 401 { headers.append(("www-authenticate", "Bearer")) }
        exchange.respond(status: problem.status, headers: headers, body: Array(body) + [UInt8(ascii: "\n")])
    }

    /// The body as a message; a caller who sends something else is told what and where.
    func read<Value: Decodable>(_: Value.Type, limit: Int = maxBodyBytes, then: @escaping (Value) -> Void) {
        exchange.collectBody(limit: limit) { body in
            do {
                then(try JSONDecoder().decode(Value.self, from: Data(body)))
            } catch let error as DecodingError {
                refuse(Problem("bad-body", status: 400, title: "The body is not what is expected here", detail: error.words))
            } catch {
                refuse(Problem("bad-body", status: 400, title: "The body is not what is expected here", detail: "\(error)"))
            }
        }
    }

    static let encoder: JSONEncoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }()
}

extension Problem {
    static func badQuery(_ name: String, expected: String, found: String) -> Problem {
        Problem("bad-query", status: 400, title: "A parameter is not valid", detail: "\(name): expected \(expected), found \"\(found)\"")
    }

    static func notFound(_ detail: String) -> Problem { Problem("not-found", status: 404, title: "Not found", detail: detail) }
}

extension DecodingError {
    fileprivate var words: String {
        func place(_ context: Context) -> String {
            let path = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
            return path.isEmpty ? "the body" : String(path.drop { $0 == "." })
        }
        return switch self {
        case .keyNotFound(let key, let context): "\(place(context)): expected a field \"\(key.stringValue)\", found none"
        case .typeMismatch(let type, let context): "\(place(context)): expected \(type), found another type"
        case .valueNotFound(let type, let context): "\(place(context)): expected \(type), found null"
        case .dataCorrupted(let context): "\(place(context)): \(context.debugDescription)"
        @unknown default: "\(self)"
        }
    }
}
