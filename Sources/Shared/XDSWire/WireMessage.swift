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
        if value != 0 { chosenNumber(field, value) }
    }

    mutating func chosenNumber(_ field: Field, _ value: some BinaryInteger) {
        output.varint(field.rawValue, UInt64(truncatingIfNeeded: value))
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
/// What is wrong is recorded with its path, and reading goes on: one pass finds all errors. A generic method is compiled for each message
/// that uses it, and there are a hundred: these turn names into numbers, and `MessageFields` does the work.
struct MessageReader<Field: WireField> {
    private let fields: MessageFields

    var context: DecodingContext { fields.context }

    /// Nil (and an error) if the bytes are no protobuf message.
    init?(_ bytes: ArraySlice<UInt8>, path: @autoclosure @escaping () -> FieldPath, context: DecodingContext, depth: Int = 0) {
        guard let fields = MessageFields(bytes, path: path, context: context, depth: depth) else { return nil }
        self.fields = fields
    }

    init(_ fields: MessageFields) {
        self.fields = fields
    }

    // MARK: Presence

    func has(_ field: Field) -> Bool {
        fields.has(field.rawValue)
    }

    /// The member of a oneof that is set: the last one written.
    func chosen(_ members: Field...) -> Field? {
        fields.chosen(members.map(\.rawValue)).flatMap(Field.init(rawValue:))
    }

    // MARK: Errors

    var path: FieldPath { fields.makePath() }

    func path(_ field: Field) -> FieldPath {
        path / fieldName(field)
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
        fields.string(field.rawValue, path(field))
    }

    /// A string that must not be empty.
    func requiredString(_ field: Field) -> String {
        let value = string(field)
        if value.isEmpty { fail(field, expected: "a value", found: "nothing") }
        return value
    }

    func strings(_ field: Field) -> [String] {
        fields.strings(field.rawValue, path(field))
    }

    func bytes(_ field: Field) -> ArraySlice<UInt8>? {
        fields.bytes(field.rawValue, path(field))
    }

    func number(_ field: Field) -> UInt64 {
        fields.number(field.rawValue, path(field))
    }

    /// int64 and int32.
    func signed(_ field: Field) -> Int64 {
        Int64(bitPattern: number(field))
    }

    func uint32(_ field: Field, in range: ClosedRange<UInt32> = 0...UInt32.max) -> UInt32? {
        fields.uint32(number(field), in: range, path(field))
    }

    /// A repeated number, packed or not.
    func numbers(_ field: Field) -> [UInt64] {
        fields.numbers(field.rawValue, path(field))
    }

    func fixed64(_ field: Field) -> UInt64? {
        fields.fixed64(field.rawValue, path(field))
    }

    func double(_ field: Field) -> Double {
        fixed64(field).map(Double.init(bitPattern:)) ?? 0
    }

    func bool(_ field: Field) -> Bool {
        number(field) != 0
    }

    // MARK: Messages

    func message<Inner: WireField>(_ field: Field, _: Inner.Type) -> MessageReader<Inner>? {
        fields.message(field.rawValue, path(field)).map(MessageReader<Inner>.init)
    }

    /// Records an error if the message is not there.
    func required<Inner: WireField>(_ field: Field, _ inner: Inner.Type) -> MessageReader<Inner>? {
        if !has(field) { fail(field, expected: "a value", found: "nothing") }
        return message(field, inner)
    }

    func messages<Inner: WireField>(_ field: Field, _: Inner.Type) -> [MessageReader<Inner>] {
        fields.messages(field.rawValue, path(field)).map(MessageReader<Inner>.init)
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
        fields.any(field.rawValue, path(field))
    }

    func anys(_ field: Field) -> [AnyReader] {
        fields.anys(field.rawValue, path(field))
    }

    // MARK: Well-known types

    /// UInt32Value; nil if it is not there (or not in range, which is an error).
    func wrapped(_ field: Field, in range: ClosedRange<UInt32> = 0...UInt32.max) -> UInt32? {
        guard let number = message(field, WrapperField.self)?.number(.value) else { return nil }
        return fields.uint32(number, in: range, path(field))
    }

    /// BoolValue.
    func wrappedBool(_ field: Field) -> Bool? {
        message(field, WrapperField.self)?.bool(.value)
    }

    /// Nil if it is not there or below zero (an error).
    func duration(_ field: Field) -> Duration? {
        fields.duration(field.rawValue, path(field))
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
    case ringHash = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"
    case maglev = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev"
    case localRateLimit = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    case fault = "envoy.extensions.filters.http.fault.v3.HTTPFault"
    case filterConfig = "envoy.config.route.v3.FilterConfig"

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
