/// The two messages of grpc.health.v1.Health/Check, by hand: the request asks for the whole server and is empty.
enum GRPCHealth {
    static let path = "/grpc.health.v1.Health/Check"
    /// Of a HealthCheckResponse; it has one small field.
    static let maxMessageBytes = 1024

    /// grpc.health.v1.HealthCheckResponse.ServingStatus.
    enum Status: UInt64 {
        case unknown = 0
        case serving = 1
        case notServing = 2
        case serviceUnknown = 3

        var name: String {
            switch self {
            case .unknown: "UNKNOWN"
            case .serving: "SERVING"
            case .notServing: "NOT_SERVING"
            case .serviceUnknown: "SERVICE_UNKNOWN"
            }
        }
    }

    /// Reads a HealthCheckResponse: field 1 is the status, others are passed over; the last one counts, as protobuf has it.
    ///
    /// - Returns: nil if it is none. A status that nobody knows is `.unknown`.
    static func status(_ message: [UInt8]) -> Status? {
        var status = UInt64(0)
        var rest = message[...]
        while !rest.isEmpty {
            guard let key = varint(&rest), key >> 3 > 0 else { return nil }
            switch key & 7 {
            case 0:
                guard let value = varint(&rest) else { return nil }
                if key >> 3 == 1 { status = value }
            case 1:
                guard rest.count >= 8 else { return nil }
                rest = rest.dropFirst(8)
            case 2:
                guard let count = varint(&rest), count <= rest.count else { return nil }
                rest = rest.dropFirst(Int(count))
            case 5:
                guard rest.count >= 4 else { return nil }
                rest = rest.dropFirst(4)
            default: return nil
            }
        }
        return Status(rawValue: status) ?? .unknown
    }

    /// At most ten bytes, seven bits each, the lowest first.
    private static func varint(_ bytes: inout ArraySlice<UInt8>) -> UInt64? {
        var value = UInt64(0)
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = bytes.popFirst() else { return nil }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        return nil
    }
}
