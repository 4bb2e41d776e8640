import Base
import MeshModel

extension Sidecar {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        let subject: Subject? = spec.exactlyOne([
            .init("virtualNodeRef", .object(ObjectReference.init)) { .virtualNode($0) },
            .init("virtualGatewayRef", .object(ObjectReference.init)) { .virtualGateway($0) },
        ])
        let admin = spec.optional("admin", .object { $0.required("address", .bindAddress) })
        let workers = spec.optional("workers", .integer(1...64))
        let drainTime = spec.optional("drainTime", .duration)
        let exposeReplyDetails = spec.optional("exposeReplyDetails", .bool)
        let eventLog = spec.optional("outlierEventLog", .object { $0.required("path", .string(1...255)) })
        let inbound = spec.list("inbound", of: .object(Inbound.init))
        let outbound = spec.optional("outbound", .object(Self.outbound))
        let accessLog = spec.optional("accessLog", .object(AccessLogFile.init))
        let loadBalancing = spec.optional("loadBalancing", .oneOf(LoadBalancing.allCases))
        let http2 = spec.optional("http2", .object(Self.http2))
        let maxConnectionAge = spec.optional("maxConnectionAge", .durationOrNone)
        let overload = spec.optional("overload", .object(Overload.init))
        let zone = spec.optional("zone", .string(1...255))
        let certificates = spec.list("certificates", of: .object(Certificate.init))
        let authorities = spec.list("authorities", of: .object(Authority.init))
        guard let subject else { return nil }
        self.init(
            meta: meta, subject: subject, adminAddress: admin, workers: workers, drainTime: drainTime,
            exposeReplyDetails: exposeReplyDetails,
            outlierEventLogPath: eventLog, inbound: inbound, outboundHTTP: outbound?.http, outboundTCP: outbound?.tcp ?? [],
            accessLog: accessLog, loadBalancing: loadBalancing, maxConcurrentStreams: http2?.streams, keepalive: http2?.keepalive,
            maxConnectionAge: maxConnectionAge.flatMap { $0 > .zero ? $0 : nil }, overload: overload, zone: zone,
            certificates: certificates, authorities: authorities)
    }

    private static func http2(_ object: ObjectReader) -> (streams: Int?, keepalive: Keepalive?)? {
        (
            object.optional("maxConcurrentStreams", .integer(1...Int(Int32.max))),
            object.optional("keepalive", .object(Keepalive.init))
        )
    }

    private static func outbound(_ object: ObjectReader) -> (http: SocketAddress?, tcp: [OutboundTCP])? {
        let http = object.optional("http", .object { $0.required("bind", .bindAddress) })
        return (http, object.list("tcp", of: .object(OutboundTCP.init)))
    }
}

extension Sidecar.Inbound {
    init?(_ object: ObjectReader) {
        let port = object.required("port", .port)
        let bind = object.optional("bind", .bindAddress)
        let app = object.optional("app", .socketAddress)
        let appTLS = object.optional("appTLS", .object(Sidecar.AppTLS.init))
        guard let port else { return nil }
        self.init(port: port, bind: bind, app: app, appTLS: appTLS)
    }
}

extension Sidecar.AppTLS {
    init?(_ object: ObjectReader) {
        let validation = object.optional("validation", PeerValidation.type(withACM: false))
        let serverName = object.optional("serverName", .string(1...253))
        let certificate = object.optional("certificate", .object { CertificateOrigin.read($0, withACM: false) })
        self.init(validation: validation, serverName: serverName, certificate: certificate)
    }
}

extension Sidecar.Keepalive {
    init?(_ object: ObjectReader) {
        let interval = object.required("interval", .durationOrNone)
        let timeout = object.optional("timeout", .positiveDuration) ?? .seconds(10)
        guard let interval else { return nil }
        self.init(interval: interval, timeout: timeout)
    }
}

extension Sidecar.Overload {
    init?(_ object: ObjectReader) {
        self.init(
            maxMemoryMiB: object.optional("maxMemoryMiB", .integer(16...1_048_576)),
            minBodyRate: object.optional("minBodyRate", .integer(0...1_000_000)),
            stuckTime: object.optional("stuckTime", .durationOrNone))
    }
}

extension Sidecar.OutboundTCP {
    init?(_ object: ObjectReader) {
        let virtualService = object.required("virtualService", .object(ObjectReference.init))
        let port = object.optional("port", .port)
        let bind = object.required("bind", .bindAddress)
        guard let virtualService, let bind else { return nil }
        self.init(virtualService: virtualService, port: port, bind: bind)
    }
}

extension Sidecar.Certificate {
    init?(_ object: ObjectReader) {
        let arn = object.required("arn", .name)
        let chain = object.required("certificateChain", .string(1...255))
        let key = object.required("privateKey", .string(1...255))
        guard let arn, let chain, let key else { return nil }
        self.init(arn: arn, certificateChain: chain, privateKey: key)
    }
}

extension Sidecar.Authority {
    init?(_ object: ObjectReader) {
        let arn = object.required("arn", .name)
        let chain = object.required("certificateChain", .string(1...255))
        guard let arn, let chain else { return nil }
        self.init(arn: arn, certificateChain: chain)
    }
}
