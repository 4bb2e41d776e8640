import Base
import ProxyConfig

/// envoy.config.cluster.v3.Cluster.RoundRobinLbConfig and LeastRequestLbConfig, by the fields of the latter.
enum LBConfigField: Int, WireField {
    case slow_start_of_round_robin = 1
    case slow_start_of_least_request = 3
}

/// envoy.config.cluster.v3.Cluster.SlowStartConfig, and that of load_balancing_policies.common.v3.
enum SlowStartField: Int, WireField {
    case slow_start_window = 1
    case aggression = 2
    case min_weight_percent = 3
}

/// envoy.config.core.v3.RuntimeDouble.
enum RuntimeDoubleField: Int, WireField {
    case default_value = 1
}

/// envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig, and that of load_balancing_policies.common.v3.
enum ZoneAwareField: Int, WireField {
    case routing_enabled = 1
    case min_cluster_size = 2
    case fail_traffic_on_panic = 3
    case force_locality_direct_routing = 4
    case force_local_zone = 5
}

/// envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig, and that of load_balancing_policies.common.v3.
enum ConsistentHashingField: Int, WireField {
    case use_hostname_for_hashing = 1
    case hash_balance_factor = 2
    case hash_policy = 3
}

/// envoy.config.cluster.v3.LoadBalancingPolicy, and its policies.
enum LoadBalancingPolicyField: Int, WireField {
    case policies = 1
}

/// envoy.config.cluster.v3.LoadBalancingPolicy.Policy.
enum PolicyField: Int, WireField {
    case typed_extension_config = 4
}

/// envoy.config.core.v3.TypedExtensionConfig.
enum TypedExtensionField: Int, WireField {
    case name = 1
    case typed_config = 2
}

/// envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin.
private enum RoundRobinField: Int, WireField {
    case slow_start_config = 1
    case locality_lb_config = 2
}

/// envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest.
private enum LeastRequestField: Int, WireField {
    case slow_start_config = 3
    case locality_lb_config = 4
}

/// envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash.
private enum RingHashField: Int, WireField {
    case hash_balance_factor = 5
    case consistent_hashing_lb_config = 6
}

/// envoy.extensions.load_balancing_policies.maglev.v3.Maglev.
private enum MaglevField: Int, WireField {
    case consistent_hashing_lb_config = 2
}

/// envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.
private enum LocalityLBField: Int, WireField {
    case zone_aware_lb_config = 1
}

/// Policies that Cluster.LbPolicy does not number, as `lb_policy` of our metadata has them.
private enum OwnPolicy: String, CaseIterable {
    case peakEWMA = "PEAK_EWMA"
}

extension Cluster {
    static let clusterProvided = 6

    /// The policy and its slow start. What has no field stands in the metadata: see `writeExtension`.
    func writeLoadBalancing(to message: inout MessageWriter<Fields>) {
        message.number(.lb_policy, discovery == .originalDestination ? Self.clusterProvided : loadBalancing.wireNumber)
        guard hasSlowStartField else { return }
        let isRoundRobin = loadBalancing == .roundRobin
        message.message(isRoundRobin ? .round_robin_lb_config : .least_request_lb_config, LBConfigField.self) {
            $0.message(isRoundRobin ? .slow_start_of_round_robin : .slow_start_of_least_request, SlowStartField.self) {
                $0.duration(.slow_start_window, balancing.slowStart.duration)
                $0.message(.min_weight_percent, PercentField.self) { $0.double(.value, Double(balancing.slowStart.startPercent)) }
            }
        }
    }

    /// Locality weights and zones are one choice for Envoy.
    func writeCommonBalancing(to message: inout MessageWriter<CommonLBConfigField>) {
        if let size = balancing.preferredZoneSize {
            message.message(.zone_aware_lb_config, ZoneAwareField.self) { $0.wrapped(.min_cluster_size, size) }
        } else if discovery != .originalDestination {
            message.emptyMessage(.locality_weighted_lb_config)
        }
        if let bound = balancing.hashBoundPercent {
            message.message(.consistent_hashing_lb_config, ConsistentHashingField.self) { $0.wrapped(.hash_balance_factor, bound) }
        }
    }

    private var hasSlowStartField: Bool {
        guard balancing.slowStart != .none, discovery != .originalDestination else { return false }
        return switch loadBalancing {
        case .roundRobin, .leastRequest, .peakEWMA: true
        case .random, .ringHash, .maglev: false
        }
    }

    /// Whether `writeExtension` has something to say.
    var hasExtension: Bool {
        let isPeakEWMA = loadBalancing == .peakEWMA && discovery != .originalDestination
        return tls?.isEnforced == false || resilience != nil || isPeakEWMA
            || balancing.latencyHalfLife != BalancingOptions().latencyHalfLife || balancing.slowStart != .none && !hasSlowStartField
    }

    /// What no field of xDS says.
    func writeExtension(to message: inout ObjectWriter<ClusterExtensionKey>) {
        if tls?.isEnforced == false { message.bool(.tls_enforced, false) }
        if loadBalancing == .peakEWMA, discovery != .originalDestination { message.text(.lb_policy, OwnPolicy.peakEWMA.rawValue) }
        if balancing.latencyHalfLife != BalancingOptions().latencyHalfLife {
            message.duration(.latency_half_life, balancing.latencyHalfLife)
        }
        if balancing.slowStart != .none, !hasSlowStartField {
            message.object(.slow_start, RampKey.self) { $0.write(balancing.slowStart) }
        }
        if let resilience { message.object(.resilience, ResilienceKey.self) { $0.write(resilience) } }
    }
}

extension MessageReader<Cluster.Fields> {
    /// load_balancing_policy, where it is there, decides: the first of its policies that we know. In both our own policy goes first.
    func balancing(
        isOriginalDestination: Bool, own: ObjectReader<ClusterExtensionKey>?
    ) -> (policy: LoadBalancing, options: BalancingOptions) {
        var options = BalancingOptions()
        let common = message(.common_lb_config, CommonLBConfigField.self)
        options.preferredZoneSize = common?.message(.zone_aware_lb_config, ZoneAwareField.self)?.zoneSize()
        options.hashBoundPercent = common?.message(.consistent_hashing_lb_config, ConsistentHashingField.self)?.bound()
        var policy: LoadBalancing
        if let list = message(.load_balancing_policy, LoadBalancingPolicyField.self) {
            policy = typedPolicy(list, &options)
        } else {
            policy = numberedPolicy(isOriginalDestination: isOriginalDestination)
            options.slowStart = slowStart(policy) ?? .none
        }
        switch own?.word(.lb_policy, OwnPolicy.self) {
        case .peakEWMA: policy = .peakEWMA
        case nil: break
        }
        options.latencyHalfLife = own?.duration(.latency_half_life) ?? options.latencyHalfLife
        if let ramp = own?.object(.slow_start, RampKey.self)?.ramp() { options.slowStart = ramp }
        return (policy, options)
    }

    private func numberedPolicy(isOriginalDestination: Bool) -> LoadBalancing {
        let number = number(.lb_policy)
        if let known = LoadBalancing(wireNumber: number) { return known }
        if !(isOriginalDestination && number == Cluster.clusterProvided) {
            fail(
                .lb_policy, expected: "ROUND_ROBIN (0), LEAST_REQUEST (1), RING_HASH (2), RANDOM (3) or MAGLEV (5)", found: number)
        }
        return .roundRobin
    }

    private func slowStart(_ policy: LoadBalancing) -> Ramp? {
        switch policy {
        case .roundRobin:
            message(.round_robin_lb_config, LBConfigField.self)?.message(.slow_start_of_round_robin, SlowStartField.self)?.ramp()
        case .leastRequest:
            message(.least_request_lb_config, LBConfigField.self)?.message(.slow_start_of_least_request, SlowStartField.self)?.ramp()
        case .random, .ringHash, .maglev, .peakEWMA: nil
        }
    }

    private func typedPolicy(_ list: MessageReader<LoadBalancingPolicyField>, _ options: inout BalancingOptions) -> LoadBalancing {
        for policy in list.messages(.policies, PolicyField.self) {
            guard let config = policy.message(.typed_extension_config, TypedExtensionField.self)?.any(.typed_config) else { continue }
            switch config.type {
            case .roundRobin:
                let config = config.open(RoundRobinField.self)
                options.readTyped(
                    slowStart: config?.message(.slow_start_config, SlowStartField.self),
                    locality: config?.message(.locality_lb_config, LocalityLBField.self))
                return .roundRobin
            case .leastRequest:
                let config = config.open(LeastRequestField.self)
                options.readTyped(
                    slowStart: config?.message(.slow_start_config, SlowStartField.self),
                    locality: config?.message(.locality_lb_config, LocalityLBField.self))
                return .leastRequest
            case .random: return .random
            case .ringHash:
                let config = config.open(RingHashField.self)
                let common = config?.message(.consistent_hashing_lb_config, ConsistentHashingField.self)?.bound()
                options.hashBoundPercent = common ?? config?.wrapped(.hash_balance_factor, in: 101...UInt32.max) ?? options.hashBoundPercent
                return .ringHash
            case .maglev:
                let common = config.open(MaglevField.self)?.message(.consistent_hashing_lb_config, ConsistentHashingField.self)
                options.hashBoundPercent = common?.bound() ?? options.hashBoundPercent
                return .maglev
            default: continue
            }
        }
        fail(.load_balancing_policy, expected: "round robin, least request, random, ring hash or Maglev", found: "none of them")
        return .roundRobin
    }
}

extension BalancingOptions {
    fileprivate mutating func readTyped(slowStart ramp: MessageReader<SlowStartField>?, locality: MessageReader<LocalityLBField>?) {
        slowStart = ramp?.ramp() ?? .none
        preferredZoneSize = locality?.message(.zone_aware_lb_config, ZoneAwareField.self)?.zoneSize() ?? preferredZoneSize
    }
}

extension MessageReader<SlowStartField> {
    /// Our ramp is a straight line.
    fileprivate func ramp() -> Ramp? {
        if let aggression = message(.aggression, RuntimeDoubleField.self)?.double(.default_value), aggression != 1 {
            fail(.aggression, expected: "1: the load grows in proportion to the time", found: aggression)
        }
        let percent = message(.min_weight_percent, PercentField.self)?.wholePercent(in: 1...100)
        return positiveDuration(.slow_start_window).map { Ramp(duration: $0, startPercent: percent ?? 10) }
    }
}

extension MessageReader<ZoneAwareField> {
    /// Envoy's default is 6.
    fileprivate func zoneSize() -> UInt32 {
        refuse(.force_local_zone)
        for field in [ZoneAwareField.fail_traffic_on_panic, .force_locality_direct_routing] where bool(field) { refuse(field) }
        if let enabled = message(.routing_enabled, PercentField.self)?.double(.value), enabled != 100 {
            fail(.routing_enabled, expected: "100", found: enabled)
        }
        return wrapped(.min_cluster_size, in: 1...UInt32.max) ?? 6
    }
}

extension MessageReader<ConsistentHashingField> {
    fileprivate func bound() -> UInt32? {
        refuse(.hash_policy)
        if bool(.use_hostname_for_hashing) { refuse(.use_hostname_for_hashing) }
        return wrapped(.hash_balance_factor, in: 101...UInt32.max)
    }
}

extension MessageReader<PercentField> {
    func percent() -> Double {
        let value = double(.value)
        if !(0...100).contains(value) { fail(.value, expected: "a percentage from 0 through 100", found: value) }
        return value
    }

    /// Rounded to a whole number.
    func wholePercent(in range: ClosedRange<UInt32>) -> UInt32? {
        let value = double(.value)
        guard value >= Double(range.lowerBound), value <= Double(range.upperBound) else {
            fail(.value, expected: "a percentage from \(range.lowerBound) through \(range.upperBound)", found: value)
            return nil
        }
        return UInt32(value.rounded())
    }
}

extension LoadBalancing {
    /// Cluster.LbPolicy.
    private static let numbered: [(Self, Int)] = [(.roundRobin, 0), (.leastRequest, 1), (.ringHash, 2), (.random, 3), (.maglev, 5)]

    /// Of a policy without a number, that of the nearest one.
    fileprivate var wireNumber: Int {
        let policy = self == .peakEWMA ? .leastRequest : self
        return Self.numbered.first { $0.0 == policy }?.1 ?? 0
    }

    fileprivate init?(wireNumber: UInt64) {
        guard let policy = Self.numbered.first(where: { UInt64($0.1) == wireNumber })?.0 else { return nil }
        self = policy
    }
}
