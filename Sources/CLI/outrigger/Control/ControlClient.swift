import ControlAPI
import Foundation

/// One call of the control plane's API.
struct ControlCall: Hashable {
    var method = "GET"
    /// With its query.
    var path: String
    /// JSON; empty: none.
    var body: [UInt8] = []
    /// Nil: as long as it takes, for answers that are followed.
    var timeout: Duration? = .seconds(30)
}

struct ControlAnswer {
    var status: Int
    var body: [UInt8]
}

/// The control plane did not answer, or not so that one could read it.
struct ControlFailure: Error {
    /// For people: `connection refused`.
    var reason: String
    /// Nothing listens there, or nobody can reach it.
    var isUnreachable = false
}

/// Makes calls. HTTP is one way; tests have another.
protocol ControlClient: AnyObject {
    /// Where the control plane is, for people: `127.0.0.1:15010`.
    var address: String { get }

    /// Waits for the whole answer.
    ///
    /// - Parameter onPiece: gets the body of a good answer (2xx) as it comes; false ends the call. Nil: the answer has it.
    func call(_ call: ControlCall, onPiece: (([UInt8]) -> Bool)?) throws(ControlFailure) -> ControlAnswer
}

/// Builds paths with queries.
struct ControlPath {
    private var text: String

    /// - Parameter query: Entries without a value are left out.
    init(_ path: String, _ query: KeyValuePairs<String, String?> = [:]) {
        text = path
        var separator = "?"
        for case (let name, let value?) in query {
            text += "\(separator)\(name)=\(Self.escaped(value))"
            separator = "&"
        }
    }

    var description: String { text }

    /// One segment of a path, or a value of a query (RFC 3986 section 2.3: what needs no escape).
    static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (digits.utf8.count == 1 ? "0" : "") + digits
            }
        }
        return result
    }
}

/// JSON as the API and `-o json` have it: keys in order, so that the same is the same text.
enum ControlJSON {
    static func encode(_ value: some Encodable, isPretty: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting =
            isPretty ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted] : [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    static func text(_ value: some Encodable) throws -> String {
        String(decoding: try encode(value, isPretty: true), as: UTF8.self)
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ bytes: some Sequence<UInt8>) throws -> Value {
        try JSONDecoder().decode(type, from: Data(bytes))
    }
}
