import Base

/// The fields of one protobuf message: cases named as in the .proto file, numbered as there.
protocol WireField: RawRepresentable<Int>, Sendable {}

/// A value with a protobuf form.
protocol WireMessage {
    associatedtype Fields: WireField

    func write(to message: inout MessageWriter<Fields>)
    /// Nil where an error was recorded that leaves no value.
    static func read(_ message: MessageReader<Fields>) -> Self?
}

/// A message without fields, or of which we read none.
enum NoField: Int, WireField {
    case none = 1
}

/// Writes one message's fields by name.
///
/// The plain methods leave out default values, as proto3 does for fields without presence; `chosen...` always write: for members
/// of a oneof, where being there is the information.
struct MessageWriter<Field: WireField> {
    fileprivate(set) var output = ProtobufWriter()

    var bytes: [UInt8] { output.bytes }

    mutating func string(_ field: Field, _ value: String) {
        if !value.isEmpty { chosenString(field, value) }
    }

    mutating func chosenString(_ field: Field, _ value: String) {
        output.bytes(field.rawValue, value.utf8)
    }

    mutating func strings(_ field: Field, _ values: [String]) {
        for value in values { chosenString(field, value) }
    }

    mutating func bytes(_ field: Field, _ value: [UInt8]) {
        if !value.isEmpty { output.bytes(field.rawValue, value) }
    }

    mutating func chosenBytes(_ field: Field, _ value: [UInt8]) {
        output.bytes(field.rawValue, value)
    }

    mutating func number(_ field: Field, _ value: some BinaryInteger) {
        if value != 0 { output.varint(field.rawValue, UInt64(truncatingIfNeeded: value)) }
    }

    mutating func numbers(_ field: Field, _ values: [some BinaryInteger]) {
        if !values.isEmpty { output.packed(field.rawValue, values.map { UInt64(truncatingIfNeeded: $0) }) }
    }

    mutating func fixed64(_ field: Field, _ value: UInt64) {
        output.fixed64(field.rawValue, value)
    }

    mutating func double(_ field: Field, _ value: Double) {
        if value != 0 { output.fixed64(field.rawValue, value.bitPattern) }
    }

    mutating func bool(_ field: Field, _ value: Bool) {
        if value { chosenBool(field, true) }
    }

    mutating func chosenBool(_ field: Field, _ value: Bool) {
        output.varint(field.rawValue, value ? 1 : 0)
    }

    mutating func message<Inner: WireField>(_ field: Field, _: Inner.Type, _ write: (inout MessageWriter<Inner>) -> Void) {
        let start = output.beginMessage(field.rawValue)
        var inner = MessageWriter<Inner>()
        swap(&inner.output, &output)  // The bytes move to and fro; they are never copied.
        write(&inner)
        swap(&inner.output, &output)
        output.endMessage(start)
    }

    mutating func message(_ field: Field, _ value: some WireMessage) {
        message(field, type(of: value).Fields.self) { value.write(to: &$0) }
    }

    mutating func messages(_ field: Field, _ values: [some WireMessage]) {
        for value in values { message(field, value) }
    }

    mutating func emptyMessage(_ field: Field) {
        message(field, NoField.self) { _ in }
    }

    /// google.protobuf.Any.
    mutating func any<Inner: WireField>(_ field: Field, _ type: AnyType, _: Inner.Type, _ write: (inout MessageWriter<Inner>) -> Void) {
        message(field, AnyField.self) {
            $0.string(.type_url, type.url)
            $0.message(.value, Inner.self, write)
        }
    }

    mutating func any<Value: WireMessage>(_ field: Field, _ type: AnyType, _ value: Value) {
        any(field, type, Value.Fields.self) { value.write(to: &$0) }
    }

    /// google.protobuf.UInt32Value.
    mutating func wrapped(_ field: Field, _ value: some BinaryInteger) {
        message(field, WrapperField.self) { $0.number(.value, value) }
    }

    /// google.protobuf.BoolValue.
    mutating func wrapped(_ field: Field, _ value: Bool) {
        message(field, WrapperField.self) { $0.bool(.value, value) }
    }

    /// google.protobuf.Duration, rounded towards zero to nanoseconds.
    mutating func duration(_ field: Field, _ value: Duration) {
        let (seconds, attoseconds) = value.components
        message(field, DurationField.self) {
            $0.number(.seconds, seconds)
            $0.number(.nanos, attoseconds / 1_000_000_000)
        }
    }
}

/// Reads one message's fields by name, in any order and number, as protobuf has it: of a field that should be there once the last
/// one counts, of a message all are merged, and unknown fields are nothing.
///
/// What is wrong is recorded with its path, and reading goes on: one pass finds all errors.
struct MessageReader<Field: WireField> {
    /// Made only where there is something to tell: names of fields cost more than reading them.
    private let makePath: () -> FieldPath
    let context: DecodingContext
    private let fields: [(number: Int, value: ProtobufValue)]
    private let depth: Int

    /// Nil (and an error) if the bytes are no protobuf message.
    init?(_ bytes: ArraySlice<UInt8>, path: @autoclosure @escaping () -> FieldPath, context: DecodingContext, depth: Int = 0) {
        makePath = path
        self.context = context
        self.depth = depth
        do throws(ProtobufError) {
            guard depth < ProtobufReader.maxDepth else { throw .nestedTooDeep }
            fields = try Self.parse(bytes)
        } catch {
            context.add(path(), expected: "a protobuf message", found: error.description)
            return nil
        }
    }

    private static func parse(_ bytes: ArraySlice<UInt8>) throws(ProtobufError) -> [(number: Int, value: ProtobufValue)] {
        var reader = ProtobufReader(bytes)
        var fields: [(number: Int, value: ProtobufValue)] = []
        while let (number, value) = try reader.next() { fields.append((number, value)) }
        return fields
    }

    // MARK: Presence

    func has(_ field: Field) -> Bool {
        fields.contains { $0.number == field.rawValue }
    }

    /// The member of a oneof that is set: the last one written.
    func chosen(_ members: Field...) -> Field? {
        let number = fields.last { field in members.contains { $0.rawValue == field.number } }?.number
        return members.first { $0.rawValue == number }
    }

    // MARK: Errors

    var path: FieldPath { makePath() }

    func path(_ field: Field) -> FieldPath {
        path / "\(field)"
    }

    func fail(_ field: Field, expected: String, found: some CustomStringConvertible) {
        context.add(path(field), expected: expected, found: found.description)
    }

    /// Records an error if the field is there: it would change the meaning of the resource, and we cannot honour it.
    func refuse(_ refused: Field...) {
        for field in refused where has(field) { fail(field, expected: "nothing: Outrigger does not support it", found: "a value") }
    }

    // MARK: Scalars

    func string(_ field: Field) -> String {
        last(field).flatMap { text($0, path(field)) } ?? ""
    }

    /// A string that must not be empty.
    func requiredString(_ field: Field) -> String {
        let value = string(field)
        if value.isEmpty { fail(field, expected: "a value", found: "nothing") }
        return value
    }

    func strings(_ field: Field) -> [String] {
        all(field).enumerated().compactMap { index, value in text(value, path(field)[index]) }
    }

    func bytes(_ field: Field) -> ArraySlice<UInt8>? {
        guard let value = last(field) else { return nil }
        guard case .bytes(let bytes) = value else { return wrongType(path(field), "bytes", value) }
        return bytes
    }

    func number(_ field: Field) -> UInt64 {
        guard let value = last(field) else { return 0 }
        guard case .varint(let number) = value else { return wrongType(path(field), "a number", value) ?? 0 }
        return number
    }

    /// int64 and int32.
    func signed(_ field: Field) -> Int64 {
        Int64(bitPattern: number(field))
    }

    func uint32(_ field: Field, in range: ClosedRange<UInt32> = 0...UInt32.max) -> UInt32? {
        let value = number(field)
        guard let value = UInt32(exactly: value), range.contains(value) else {
            fail(field, expected: "a number from \(range.lowerBound) through \(range.upperBound)", found: value)
            return nil
        }
        return value
    }

    /// A repeated number, packed or not.
    func numbers(_ field: Field) -> [UInt64] {
        var numbers: [UInt64] = []
        for value in all(field) {
            switch value {
            case .varint(let number): numbers.append(number)
            case .bytes(let packed):
                do throws(ProtobufError) {
                    numbers += try ProtobufReader.varints(packed)
                } catch {
                    fail(field, expected: "packed numbers", found: error)
                }
            default: let _: UInt64? = wrongType(path(field), "a number", value)
            }
        }
        return numbers
    }

    func fixed64(_ field: Field) -> UInt64? {
        guard let value = last(field) else { return nil }
        guard case .fixed64(let bits) = value else { return wrongType(path(field), "eight bytes", value) }
        return bits
    }

    func double(_ field: Field) -> Double {
        fixed64(field).map(Double.init(bitPattern:)) ?? 0
    }

    func bool(_ field: Field) -> Bool {
        number(field) != 0
    }

    // MARK: Messages

    func message<Inner: WireField>(_ field: Field, _: Inner.Type) -> MessageReader<Inner>? {
        let parts = all(field)
        guard let first = parts.first else { return nil }
        guard parts.count > 1 else { return open(first, path(field)) }
        var merged: [UInt8] = []
        for part in parts {
            guard case .bytes(let bytes) = part else { return wrongType(path(field), "a message", part) }
            merged += bytes
        }
        return open(.bytes(merged[...]), path(field))
    }

    /// Records an error if the message is not there.
    func required<Inner: WireField>(_ field: Field, _ inner: Inner.Type) -> MessageReader<Inner>? {
        if !has(field) { fail(field, expected: "a value", found: "nothing") }
        return message(field, inner)
    }

    func messages<Inner: WireField>(_ field: Field, _: Inner.Type) -> [MessageReader<Inner>] {
        all(field).enumerated().compactMap { index, value in open(value, path(field)[index]) }
    }

    func message<Value: WireMessage>(_ field: Field, _: Value.Type) -> Value? {
        message(field, Value.Fields.self).flatMap(Value.read)
    }

    func required<Value: WireMessage>(_ field: Field, _: Value.Type) -> Value? {
        required(field, Value.Fields.self).flatMap(Value.read)
    }

    func messages<Value: WireMessage>(_ field: Field, _: Value.Type) -> [Value] {
        messages(field, Value.Fields.self).compactMap(Value.read)
    }

    func any(_ field: Field) -> AnyReader? {
        guard let message = message(field, AnyField.self) else { return nil }
        return AnyReader(message, path: path(field), depth: depth + 1)
    }

    func anys(_ field: Field) -> [AnyReader] {
        messages(field, AnyField.self).map { AnyReader($0, path: $0.path, depth: depth + 1) }
    }

    // MARK: Well-known types

    /// UInt32Value; nil if it is not there (or not in range, which is an error).
    func wrapped(_ field: Field, in range: ClosedRange<UInt32> = 0...UInt32.max) -> UInt32? {
        guard let number = message(field, WrapperField.self)?.number(.value) else { return nil }
        guard let value = UInt32(exactly: number), range.contains(value) else {
            fail(field, expected: "a number from \(range.lowerBound) through \(range.upperBound)", found: number)
            return nil
        }
        return value
    }

    /// BoolValue.
    func wrappedBool(_ field: Field) -> Bool? {
        message(field, WrapperField.self)?.bool(.value)
    }

    /// Nil if it is not there or below zero (an error).
    func duration(_ field: Field) -> Duration? {
        guard let message = message(field, DurationField.self) else { return nil }
        let (seconds, nanos) = (message.signed(.seconds), message.signed(.nanos))
        // The upper bound is protobuf's own: 10,000 years.
        guard (0...315_576_000_000).contains(seconds), (0...999_999_999).contains(nanos) else {
            fail(field, expected: "a duration from 0 s through 315576000000 s", found: "\(seconds) s and \(nanos) ns")
            return nil
        }
        return .seconds(seconds) + .nanoseconds(nanos)
    }

    /// A duration above zero; nil if it is not there.
    func positiveDuration(_ field: Field) -> Duration? {
        let duration = duration(field)
        if duration == .zero { fail(field, expected: "a duration above 0", found: "0 s") }
        return duration
    }

    /// A duration of which 0 means "none", as Envoy has it for timeouts: `.some(nil)` then, and nil if it is not there.
    func timeout(_ field: Field) -> Duration?? {
        duration(field).map { $0 == .zero ? nil : $0 }
    }

    // MARK: Private

    private func all(_ field: Field) -> [ProtobufValue] {
        fields.lazy.filter { $0.number == field.rawValue }.map(\.value)
    }

    private func last(_ field: Field) -> ProtobufValue? {
        fields.last { $0.number == field.rawValue }?.value
    }

    private func text(_ value: ProtobufValue, _ path: @autoclosure () -> FieldPath) -> String? {
        guard case .bytes(let bytes) = value else { return wrongType(path(), "text", value) }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            context.add(path(), expected: "text in UTF-8", found: "other bytes")
            return nil
        }
        return text
    }

    private func open<Inner: WireField>(_ value: ProtobufValue, _ path: @autoclosure @escaping () -> FieldPath) -> MessageReader<Inner>? {
        guard case .bytes(let bytes) = value else { return wrongType(path(), "a message", value) }
        return MessageReader<Inner>(bytes, path: path(), context: context, depth: depth + 1)
    }

    private func wrongType<Value>(_ path: FieldPath, _ expected: String, _ value: ProtobufValue) -> Value? {
        let found =
            switch value {
            case .varint: "a number"
            case .fixed64: "eight bytes"
            case .fixed32: "four bytes"
            case .bytes: "a string of bytes"
            }
        context.add(path, expected: expected, found: found)
        return nil
    }
}

/// A message of which only the type's name is known until it is opened.
struct AnyReader {
    /// The full name of the message type: what stands behind the last slash of the URL.
    let typeName: String
    private let makePath: () -> FieldPath
    private let value: ArraySlice<UInt8>
    private let context: DecodingContext
    private let depth: Int

    init(_ message: MessageReader<AnyField>, path: @autoclosure @escaping () -> FieldPath, depth: Int) {
        let url = message.requiredString(.type_url)
        typeName = url.split(separator: "/").last.map(String.init) ?? ""
        value = message.bytes(.value) ?? []
        makePath = path
        context = message.context
        self.depth = depth
    }

    var path: FieldPath { makePath() }
    var type: AnyType? { AnyType(rawValue: typeName) }

    func open<Field: WireField>(_: Field.Type) -> MessageReader<Field>? {
        MessageReader<Field>(value, path: path, context: context, depth: depth)
    }

    func fail(expected: String) {
        context.add(path / "type_url", expected: expected, found: typeName.isEmpty ? "nothing" : typeName)
    }
}

/// Every message type that we put into an `Any` or take out of one.
enum AnyType: String {
    case listener = "envoy.config.listener.v3.Listener"
    case routeConfiguration = "envoy.config.route.v3.RouteConfiguration"
    case cluster = "envoy.config.cluster.v3.Cluster"
    case clusterLoadAssignment = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    case httpConnectionManager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    case tcpProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    case router = "envoy.extensions.filters.http.router.v3.Router"
    case tlsInspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    case fileAccessLog = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    case stdoutAccessLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    case stderrAccessLog = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
    case downstreamTLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    case secret = "envoy.extensions.transport_sockets.tls.v3.Secret"
    case upstreamTLS = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    case rawBuffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    case httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    case tcpProtocolOptions = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions"
    case previousHosts = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    case roundRobin = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"
    case leastRequest = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    case random = "envoy.extensions.load_balancing_policies.random.v3.Random"

    var url: String { "type.googleapis.com/" + rawValue }
}

/// google.protobuf.Any.
enum AnyField: Int, WireField {
    case type_url = 1
    case value = 2
}

/// google.protobuf.UInt32Value and BoolValue.
enum WrapperField: Int, WireField {
    case value = 1
}

/// google.protobuf.Duration.
enum DurationField: Int, WireField {
    case seconds = 1
    case nanos = 2
}
