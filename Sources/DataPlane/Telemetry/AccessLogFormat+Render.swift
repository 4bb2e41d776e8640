public import Base
import HTTP

extension AccessLogFormat {
    /// Appends the record's line. Whatever the record lacks is `-`, or null where a JSON value is one operator alone.
    public func render(_ record: borrowing AccessRecord, into line: inout ByteBuffer) {
        for index in steps.indices {
            let step = steps[index]
            switch step.kind {
            case .literal: line.append(pool, step.literal)
            case .value:
                if !append(step, record, to: &line) { line.append(UInt8(ascii: "-")) }
            case .typedValue where step.operation.isNumber:
                if !append(step, record, to: &line) { line.append("null") }
            case .typedValue:
                let start = line.count
                line.append(UInt8(ascii: "\""))
                if append(step, record, to: &line) {
                    line.append(UInt8(ascii: "\""))
                } else {
                    line.truncate(to: start)
                    line.append("null")
                }
            }
        }
    }

    /// Returns false, and appends nothing, where there is no value.
    private func append(_ step: Step, _ record: borrowing AccessRecord, to line: inout ByteBuffer) -> Bool {
        let style = step.style
        switch step.operation {
        case .startTime: timeFormats[step.variant].render(record.startTime, into: &line)
        case .request, .requestWithoutQuery: return appendRequestField(step, record, to: &line)
        case .response:
            if let head = record.response, appendField(step, head, to: &line) { return true }
            guard step.names(.upstreamServiceTime), record.upstreamServiceTime >= 0 else { return false }
            line.append(decimal: Int(record.upstreamServiceTime))
        case .trailer:
            guard let head = record.trailers else { return false }
            return appendField(step, head, to: &line)
        case .protocolVersion:
            switch record.protocolVersion {
            case .none: return false
            case .http10: line.append("HTTP/1.0")
            case .http11: line.append("HTTP/1.1")
            case .http2: line.append("HTTP/2")
            }
        case .responseCode: line.append(decimal: record.status)
        case .responseCodeDetails: return line.append(record.details, as: style)
        case .responseFlags: line.append(record.flags)
        case .bytesReceived: line.append(decimal: record.bytesReceived)
        case .bytesSent: line.append(decimal: record.bytesSent)
        case .duration: return line.append(milliseconds: record.duration)
        case .requestDuration: return line.append(milliseconds: record.requestDuration)
        case .responseDuration: return line.append(milliseconds: record.responseDuration)
        case .responseTxDuration:
            guard record.responseDuration >= 0 else { return false }
            return line.append(milliseconds: record.duration - record.responseDuration)
        case .upstreamHost, .upstreamRemoteAddress: return line.append(record.upstreamHost)
        case .upstreamRemoteAddressWithoutPort: return line.append(ip: record.upstreamHost)
        case .upstreamRemotePort: return line.append(port: record.upstreamHost)
        case .upstreamLocalAddress: return line.append(record.upstreamLocalAddress)
        case .upstreamLocalAddressWithoutPort: return line.append(ip: record.upstreamLocalAddress)
        case .upstreamLocalPort: return line.append(port: record.upstreamLocalAddress)
        case .upstreamCluster: return line.append(record.upstreamCluster, as: style)
        case .upstreamTransportFailureReason: return line.append(record.upstreamTransportFailureReason, as: style)
        case .upstreamRequestAttemptCount: line.append(decimal: record.attempts)
        case .routeName: return line.append(record.routeName, as: style)
        case .virtualClusterName: return false  // App Mesh has none.
        case .filterChainName: return line.append(record.filterChainName, as: style)
        case .downstreamRemoteAddress: return line.append(record.downstreamRemoteAddress)
        case .downstreamRemoteAddressWithoutPort: return line.append(ip: record.downstreamRemoteAddress)
        case .downstreamRemotePort: return line.append(port: record.downstreamRemoteAddress)
        case .downstreamDirectRemoteAddress: return line.append(record.downstreamDirectRemoteAddress)
        case .downstreamDirectRemoteAddressWithoutPort: return line.append(ip: record.downstreamDirectRemoteAddress)
        case .downstreamDirectRemotePort: return line.append(port: record.downstreamDirectRemoteAddress)
        case .downstreamLocalAddress: return line.append(record.downstreamLocalAddress)
        case .downstreamLocalAddressWithoutPort: return line.append(ip: record.downstreamLocalAddress)
        case .downstreamLocalPort: return line.append(port: record.downstreamLocalAddress)
        case .downstreamPeerURISAN: return line.append(record.downstreamPeerURISAN, as: style)
        case .requestedServerName: return line.append(record.requestedServerName, as: style)
        case .connectionID: line.append(decimal: Int(clamping: record.connectionID))
        case .connectionTerminationDetails: return line.append(record.connectionTerminationDetails, as: style)
        case .hostname: return line.append(hostname, as: style)
        case .traceID: return appendTraceID(style, record, to: &line)
        case .grpcStatus: return appendGRPCStatus(step, record, to: &line)
        case .grpcStatusNumber:
            guard let status = Self.grpcStatus(record) else { return false }
            line.append(decimal: status)
        }
        return true
    }

    // MARK: Fields of heads

    private func appendRequestField(_ step: Step, _ record: borrowing AccessRecord, to line: inout ByteBuffer) -> Bool {
        if let head = record.request, appendField(step, head, to: &line) { return true }
        guard step.names(.requestID), !record.requestID.isEmpty else { return false }
        line.append(record.requestID.span.extracting(first: step.maxLength), as: step.style)
        return true
    }

    private func appendField(_ step: Step, _ head: Head, to line: inout ByteBuffer) -> Bool {
        guard var range = find(step.field, head) ?? find(step.otherField, head) else {
            guard step.field.isStatus || step.otherField.isStatus, head.status > 0 else { return appendScheme(step, head, to: &line) }
            line.append(decimal: head.status)
            return true
        }
        let bytes = head.bytes
        if step.operation == .requestWithoutQuery {
            for index in range where bytes[index] == UInt8(ascii: "?") {
                range = range.lowerBound..<index
                break
            }
        }
        line.append(bytes.span.extracting(range).extracting(first: step.maxLength), as: step.style)
        return true
    }

    private func appendScheme(_ step: Step, _ head: Head, to line: inout ByteBuffer) -> Bool {
        guard step.field.isScheme || step.otherField.isScheme, !head.methodRange.isEmpty else { return false }
        line.append(head.scheme == .https ? "https" : "http")
        return true
    }

    /// The first field of the name, as a range of the head's bytes.
    private func find(_ name: FieldName, _ head: Head) -> Range<Int>? {
        switch name {
        case .none, .scheme, .status: return nil
        case .method: return head.methodRange.isEmpty ? nil : head.methodRange
        case .path: return head.target.isEmpty ? nil : head.target
        case .authority: return head.authority.isEmpty ? nil : head.authority
        case .known(let known): return head.first(known)?.value
        case .named(let range):
            let names = pool
            return Self.find(names.span.extracting(range), head)
        }
    }

    /// - Parameter name: in lower case.
    private static func find(_ name: Span<UInt8>, _ head: Head) -> Range<Int>? {
        let bytes = head.bytes
        let span = bytes.span
        for field in head.fields where field.name.count == name.count {
            var index = 0
            while index < name.count {
                var byte = span[Int(field.nameStart) + index]
                if byte &- 0x41 < 26 { byte |= 0x20 }
                guard byte == name[index] else { break }
                index += 1
            }
            if index == name.count { return field.value }
        }
        return nil
    }

    private static func find(_ name: StaticString, _ head: Head) -> Range<Int>? {
        let span = unsafe Span(_unsafeStart: name.utf8Start, count: name.utf8CodeUnitCount)
        return find(span, head)
    }

    /// The second part of `traceparent` (W3C Trace Context section 3.2.2.3), or `x-b3-traceid`.
    private func appendTraceID(_ style: LogStyle, _ record: borrowing AccessRecord, to line: inout ByteBuffer) -> Bool {
        guard let head = record.request else { return false }
        let bytes = head.bytes
        if let value = Self.find("traceparent", head), value.count >= 55 {
            line.append(bytes.span.extracting(value.lowerBound + 3..<value.lowerBound + 35), as: style)
            return true
        }
        guard let value = Self.find("x-b3-traceid", head), value.count == 16 || value.count == 32 else { return false }
        line.append(bytes.span.extracting(value), as: style)
        return true
    }

    // MARK: gRPC

    /// `grpc-status` of the trailers, or of the head of a response without a body.
    private static func grpcStatus(_ record: borrowing AccessRecord) -> Int? {
        if let head = record.trailers, let status = grpcStatus(head) { return status }
        guard let head = record.response else { return nil }
        return grpcStatus(head)
    }

    private static func grpcStatus(_ head: Head) -> Int? {
        guard let value = head.first(.grpcStatus)?.value, (1...9).contains(value.count) else { return nil }
        var number = 0
        for index in value {
            let digit = head.bytes[index] &- 0x30
            guard digit < 10 else { return nil }
            number = number * 10 + Int(digit)
        }
        return number
    }

    private func appendGRPCStatus(_ step: Step, _ record: borrowing AccessRecord, to line: inout ByteBuffer) -> Bool {
        guard let status = Self.grpcStatus(record) else { return false }
        guard status < GRPCStatusName.camel.count else {
            line.append(decimal: status)
            return true
        }
        line.append(step.variant == 0 ? GRPCStatusName.camel[status] : GRPCStatusName.snake[status])
        return true
    }
}

extension AccessLogFormat.FieldName {
    fileprivate var isStatus: Bool { if case .status = self { true } else { false } }
    fileprivate var isScheme: Bool { if case .scheme = self { true } else { false } }

    fileprivate func isKnown(_ field: KnownField) -> Bool {
        if case .known(let known) = self { known == field } else { false }
    }
}

extension AccessLogFormat.Step {
    fileprivate func names(_ known: KnownField) -> Bool { field.isKnown(known) || otherField.isKnown(known) }
}

extension LogOperator {
    /// Whether a JSON value is a number.
    var isNumber: Bool {
        switch self {
        case .responseCode, .bytesReceived, .bytesSent, .duration, .requestDuration, .responseDuration, .responseTxDuration,
            .upstreamRemotePort, .upstreamLocalPort, .upstreamRequestAttemptCount, .downstreamRemotePort, .downstreamDirectRemotePort,
            .downstreamLocalPort, .connectionID, .grpcStatusNumber:
            true
        default: false
        }
    }
}

extension ByteBuffer {
    fileprivate mutating func append(_ bytes: [UInt8], as style: LogStyle) -> Bool {
        guard !bytes.isEmpty else { return false }
        append(bytes.span, as: style)
        return true
    }

    fileprivate mutating func append(_ text: LogText, as style: LogStyle) -> Bool {
        switch text {
        case .none: return false
        case .bytes(let bytes): return append(bytes, as: style)
        case .literal(let literal):
            append(unsafe Span(_unsafeStart: literal.utf8Start, count: literal.utf8CodeUnitCount), as: style)
            return true
        }
    }

    /// - Parameter nanoseconds: below 0 where there is no value.
    fileprivate mutating func append(milliseconds nanoseconds: Int64) -> Bool {
        guard nanoseconds >= 0 else { return false }
        append(decimal: Int(nanoseconds / 1_000_000))
        return true
    }

    fileprivate mutating func append(_ address: SocketAddress?) -> Bool {
        guard let address else { return false }
        append(address)
        return true
    }

    fileprivate mutating func append(ip address: SocketAddress?) -> Bool {
        guard let address else { return false }
        append(address.ip)
        return true
    }

    fileprivate mutating func append(port address: SocketAddress?) -> Bool {
        guard let address else { return false }
        append(decimal: Int(address.port))
        return true
    }

    /// `UF,URX`, or `-`.
    fileprivate mutating func append(_ flags: ResponseFlags) {
        guard flags.rawValue != 0 else { return append(UInt8(ascii: "-")) }
        var isFirst = true
        for (flag, letters) in ResponseFlags.letters where flags.contains(flag) {
            if !isFirst { append(UInt8(ascii: ",")) }
            append(letters)
            isFirst = false
        }
    }
}
