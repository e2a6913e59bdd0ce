package scheme

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1alpha1 "k8s.io/api/certificates/v1alpha1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What kubelet sends to an API server and gets from it, by the groups that its clients and informers ask for.
var sent = map[schema.GroupVersion][]runtime.Object{
	authenticationv1.SchemeGroupVersion:     {&authenticationv1.TokenRequest{}, &authenticationv1.TokenReview{}},
	authorizationv1.SchemeGroupVersion:      {&authorizationv1.SubjectAccessReview{}},
	certificatesv1.SchemeGroupVersion:       {&certificatesv1.CertificateSigningRequest{}},
	certificatesv1alpha1.SchemeGroupVersion: {&certificatesv1alpha1.ClusterTrustBundle{}},
	certificatesv1beta1.SchemeGroupVersion:  {&certificatesv1beta1.ClusterTrustBundle{}},
	coordinationv1.SchemeGroupVersion:       {&coordinationv1.Lease{}},
	corev1.SchemeGroupVersion: {
		&corev1.Pod{}, &corev1.PodList{}, &corev1.Node{}, &corev1.NodeList{}, &corev1.Service{}, &corev1.ConfigMap{},
		&corev1.Secret{}, &corev1.Event{}, &corev1.PersistentVolume{}, &corev1.PersistentVolumeClaim{},
	},
	eventsv1.SchemeGroupVersion:   {&eventsv1.Event{}},
	nodev1.SchemeGroupVersion:     {&nodev1.RuntimeClass{}, &nodev1.RuntimeClassList{}},
	resourcev1.SchemeGroupVersion: {&resourcev1.ResourceClaim{}, &resourcev1.ResourceSlice{}},
	storagev1.SchemeGroupVersion:  {&storagev1.CSINode{}, &storagev1.CSIDriver{}, &storagev1.VolumeAttachment{}},
}

func TestWhatKubeletSendsIsEncodedAndDecoded(t *testing.T) {
	for version, objects := range sent {
		for _, mediaType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
			info, ok := runtime.SerializerInfoForMediaType(Codecs.SupportedMediaTypes(), mediaType)
			if !ok {
				t.Fatalf("no serializer for %s", mediaType)
			}
			for _, object := range objects {
				bytes, err := runtime.Encode(Codecs.EncoderForVersion(info.Serializer, version), object)
				if err != nil {
					t.Errorf("%s %T: %v", mediaType, object, err)
					continue
				}
				decoded, kind, err := Codecs.UniversalDeserializer().Decode(bytes, nil, nil)
				if err != nil || kind.GroupVersion() != version || decoded == nil {
					t.Errorf("%s %T: %v, %v", mediaType, object, kind, err)
				}
			}
		}
	}
}
